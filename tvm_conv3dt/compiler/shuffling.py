"""Vectors of lanes that share a channel: loads of a short run of elements again and again, and of every so many lanes of a vector.

TVM's code generator loads each lane by itself where their places are no row. Here they become the load of a row and a shuffle, for which LLVM
has instructions: the load of a run and its repetition are one, such as ``vbroadcastsd``.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, sym, tirx

__all__ = ["shuffle_loads"]


def shuffle_loads(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Rewrite loads in a lowered function whose loops are vectors.

    Those of places ``start + lane % length`` load a run and repeat it. Those of every `stride`-th place of a local buffer load all lanes
    of the vector that they are of.
    """
    analyzer = sym.Analyzer()

    def load(each: ir.TensorLoad) -> Any:
        (index,) = each.indices
        if isinstance(index, tirx.Ramp):
            local = each.source.scope() == "local"
            return _one_of(each, int(index.stride), analyzer) if local else each
        found = _run(index)
        if found is None:
            return each
        start, length, lanes = found
        run = tirx.BufferLoad(each.source, [_row(analyzer.simplify(start), length)])
        return tirx.Shuffle([run] * (lanes // length), [*range(lanes)])

    return tvm_ffi.structural_map(function, (ir.TensorLoad, load))


def _one_of(load: ir.TensorLoad, stride: int, analyzer: sym.Analyzer) -> Any:
    """Return a load of every so many lanes as one of all of them, where it is known in which vector they are."""
    (index,) = load.indices
    lanes = stride * int(index.lanes)
    first = analyzer.simplify(tirx.floormod(index.base, tirx.const(lanes, index.base.ty.dtype)))
    if stride == 1 or not isinstance(first, tirx.IntImm) or int(first) >= stride:
        return load
    start = analyzer.simplify(index.base - first)
    vector = tirx.BufferLoad(load.source, [_row(start, lanes)])
    return tirx.Shuffle([vector], [*range(int(first), lanes, stride)])


def _run(index: Any) -> tuple[Any, int, int] | None:
    """Return where a run starts, its length, and the lanes of a vector of places; None if these are others."""
    if isinstance(index, tirx.Add | tirx.Sub):
        left, right = _run(index.a), _run(index.b)
        start, of_right = _scalar(index.a), _scalar(index.b)
        if left is not None and of_right is not None:
            return type(index)(left[0], of_right), *left[1:]
        if right is not None and start is not None and isinstance(index, tirx.Add):
            return start + right[0], *right[1:]
        return None
    if not isinstance(index, tirx.FloorMod) or not isinstance(index.a, tirx.Ramp):
        return None
    first, length, lanes = index.a.base, _scalar(index.b), int(index.a.lanes)
    counts = isinstance(first, tirx.IntImm) and int(first) == 0 and int(index.a.stride) == 1
    if not counts or not isinstance(length, tirx.IntImm) or lanes % int(length):
        return None
    return first, int(length), lanes


def _scalar(index: Any) -> Any | None:
    """Return what all lanes have, if they have the same."""
    if isinstance(index, tirx.Broadcast):
        return index.value
    if isinstance(index, tirx.Add | tirx.Sub):
        a, b = _scalar(index.a), _scalar(index.b)
        return None if a is None or b is None else type(index)(a, b)
    return None


def _row(start: Any, lanes: int) -> Any:
    return tirx.Ramp(start, tirx.const(1, start.ty.dtype), lanes)
