"""Rows turned: from channels first to channels last, and back, a tile of vectors at a time.

A block that copies ``[..., w, c]`` from ``[..., c, ..., w]``, or the other way round, reads or writes single elements,
far apart. Where its two innermost loops are a tile of powers of two, the tile becomes loads of whole vectors, a
butterfly of shuffles, and stores of whole vectors. No vector is longer than the longer side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import tvm_ffi
from tvm import ir, s_tir, sym, tirx

from tvm_conv3dt.compiler.elements import narrow, widen

__all__ = ["TURN", "transposed", "turn_tiles"]

Bind: TypeAlias = Callable[[Any], Any]

TURN = "conv3d_transpose.turn"
"""Annotation of a block whose two innermost loops are a tile to turn."""


def turn_tiles(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Turn the tiles of all blocks of a scheduled function that are annotated with it."""

    def loop(outer: tirx.For) -> Any:
        inner = outer.body
        if not isinstance(inner, tirx.For) or not isinstance(inner.body, s_tir.SBlockRealize):
            return outer
        realize = inner.body
        if TURN not in realize.block.annotations:
            return outer
        return _turned(realize, (outer, inner))

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


def _turned(realize: s_tir.SBlockRealize, loops: tuple[tirx.For, tirx.For]) -> Any:
    """Return a block that does at once what the two loops around one did."""
    block = realize.block
    sizes = {loop.loop_var: int(loop.extent) for loop in loops}
    starts, extents = [], []
    for value in realize.iter_values:
        inner = [variable for variable in sizes if _uses(value, variable)]
        starts.append(_at_zero(value, inner))
        extents.append(sizes[inner[0]] if inner else 1)
    variables = [each.var for each in block.iter_vars]
    size_of = dict(zip(variables, extents, strict=True))

    (store,) = _found(block.body, tirx.BufferStore)
    load, *_ = _found(store.value, ir.TensorLoad)  # one, that rounding mentions more than once
    across, along = (
        load.indices[-1],
        store.indices[-1],
    )  # contiguous in the source; in the destination
    lanes, count = size_of[across], size_of[along]

    statements: list[Any] = []

    def bind(value: Any) -> Any:
        variable = tirx.Var(f"turn{len(statements)}", value.ty.dtype)
        statements.append(tirx.Bind(variable, value))
        return variable

    def vector(indices: Any, moved: Any, by: int, length: int) -> list[Any]:
        *others, last = [index + by if index.same_as(moved) else index for index in indices]
        return [
            *others,
            last if length == 1 else tirx.Ramp(last, tirx.const(1, last.ty.dtype), length),
        ]

    source, target = load.source, store.buffer
    loaded = [
        bind(
            widen(
                tirx.BufferLoad(source, vector(load.indices, along, i, lanes)), source.dtype, lanes
            )
        )
        for i in range(count)
    ]
    for i, each in enumerate(transposed(loaded, lanes, bind)):
        value = narrow(each, target.dtype, count)
        statements.append(tirx.BufferStore(target, value, vector(store.indices, across, i, count)))

    def region(buffer: Any, indices: Any) -> Any:
        return tirx.BufferRegion(
            buffer, [ir.Range.from_min_extent(i, size_of.get(i, 1)) for i in indices]
        )

    body = tirx.SeqStmt(statements)
    if isinstance(
        block.body, tirx.IfThenElse
    ):  # where depth or height end within a position's phases
        body = tirx.IfThenElse(block.body.condition, body, None)
    turned = s_tir.SBlock(
        block.iter_vars,
        [region(source, load.indices)],
        [region(target, store.indices)],
        block.name_hint,
        body,
    )
    return s_tir.SBlockRealize(starts, realize.predicate, turned)


def _found(part: Any, kind: Any) -> list[Any]:
    found: list[Any] = []
    tvm_ffi.structural_walk(part, (kind, found.append))
    return found


def _uses(expression: Any, variable: Any) -> bool:
    return any(each.same_as(variable) for each in _found(expression, tirx.Var))


def _at_zero(expression: Any, variables: list[Any]) -> Any:
    zero = tirx.const(0, "int32")

    def substitute(each: tirx.Var) -> Any:
        return zero if any(each.same_as(variable) for variable in variables) else each

    return sym.Analyzer().simplify(tvm_ffi.structural_map(expression, [(tirx.Var, substitute)]))
