"""Rows turned: from channels first to channels last, and back, a tile of vectors at a time.

A block that copies ``[..., w, c]`` from ``[..., c, ..., w]``, or the other way round, reads or writes single elements,
far apart. Where its two innermost loops are a tile of powers of two, the tile becomes loads of whole vectors, a
butterfly of shuffles, and stores of whole vectors. No vector is longer than the longer side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import tvm_ffi
from tvm import ir, s_tir, tirx

from tvm_conv3dt.compiler.elements import narrow, widen
from tvm_conv3dt.compiler.expressions import at

__all__ = ["TURN", "transposed", "turn_tiles"]

Bind: TypeAlias = Callable[[Any], Any]

TURN = "conv3d_transpose.turn"
"""Annotation of a block whose two innermost loops are a tile to turn."""


def turn_tiles(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Turn the tiles of a function's blocks that are annotated with it.

    The function's blocks are opaque, and its buffers cut to size: of vectors TVM finds no bounds to cut by.
    """

    def loop(outer: tirx.For) -> Any:
        inner = outer.body
        if not isinstance(inner, tirx.For) or not isinstance(inner.body, s_tir.SBlockRealize):
            return outer
        realize = inner.body
        if TURN not in realize.block.annotations:
            return outer
        body = _turned(realize.block.body, (outer, inner))
        always = isinstance(realize.predicate, tirx.IntImm) and int(realize.predicate)
        return body if always else tirx.IfThenElse(realize.predicate, body, None)

    return tvm_ffi.structural_map(function, (tirx.For, loop))


def transposed(vectors: list[Any], lanes: int, bind: Bind) -> list[Any]:
    """Return `lanes` vectors, of which each has one lane of all `vectors`.

    Parameters
    ----------
    vectors : list of expression
        As many as a power of two.
    lanes : int
        Of each of them: a power of two.
    bind : callable
        Gives a value a name, since each is used twice.
    """
    count = len(vectors)
    side, length = min(count, lanes), max(count, lanes)
    # Squares of `side` stand beside each other in each row.
    rows = [bind(_joined(vectors[i::side], length)) for i in range(side)]
    half = side // 2
    while half:
        first = [lane if lane & half == 0 else length + lane - half for lane in range(length)]
        second = [lane + half if lane & half == 0 else length + lane for lane in range(length)]
        for i in range(side):
            if i & half == 0:
                pair = [rows[i], rows[i + half]]
                rows[i], rows[i + half] = (
                    bind(tirx.Shuffle(pair, lanes_of)) for lanes_of in (first, second)
                )
        half //= 2
    if count >= lanes:
        return rows
    parts = [list(range(start, start + count)) for start in range(0, lanes, count)]
    return [tirx.Shuffle([rows[i]], part) for part in parts for i in range(side)]


def _joined(vectors: list[Any], length: int) -> Any:
    return vectors[0] if len(vectors) == 1 else tirx.Shuffle(vectors, list(range(length)))


def _turned(body: Any, loops: tuple[tirx.For, tirx.For]) -> Any:
    """Return what does at once what two loops around a copy do."""
    if isinstance(body, tirx.IfThenElse):  # where depth or height end within a position's phases
        return tirx.IfThenElse(body.condition, _turned(body.then_case, loops), None)
    load, *_ = _found(body.value, ir.TensorLoad)  # one, that rounding mentions more than once
    source, target = load.source, body.buffer
    across, along = (
        next(loop for loop in loops if _found(index, tirx.Var, loop.loop_var))
        for index in (load.indices[-1], body.indices[-1])
    )
    lanes, count = int(across.extent), int(along.extent)
    statements: list[Any] = []

    def bind(value: Any) -> Any:
        variable = tirx.Var(f"turn{len(statements)}", value.ty.dtype)
        statements.append(tirx.Bind(variable, value))
        return variable

    def vector(indices: Any, ramp: tirx.For, other: tirx.For, number: int) -> list[Any]:
        """Return indices at the start of one loop, along which they make a vector, and at a number of the other."""
        values = {ramp.loop_var: 0, other.loop_var: number}
        *others, last = (at(index, values) for index in indices)
        length = int(ramp.extent)
        step = tirx.const(1, last.ty.dtype)
        return [*others, last if length == 1 else tirx.Ramp(last, step, length)]

    loaded = [tirx.BufferLoad(source, vector(load.indices, across, along, i)) for i in range(count)]
    # Of one dtype they stay as they are.
    before, after = str(source.dtype), str(target.dtype)
    if before == after:
        before = after = "float32"
    cast = any("bfloat16" in str(each.ty.dtype) for each in _found(body.value, tirx.Cast))
    vectors = [bind(widen(each, before, lanes)) for each in loaded]
    for i, each in enumerate(transposed(vectors, lanes, bind)):
        indices = vector(body.indices, along, across, i)
        statements.append(tirx.BufferStore(target, narrow(each, after, count, cast), indices))
    return tirx.SeqStmt(statements)


def _found(part: Any, kind: Any, wanted: Any = None) -> list[Any]:
    found: list[Any] = []

    def visit(each: Any) -> None:
        if wanted is None or each.same_as(wanted):
            found.append(each)

    tvm_ffi.structural_walk(part, (kind, visit))
    return found
