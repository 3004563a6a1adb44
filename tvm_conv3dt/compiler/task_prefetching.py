"""The packed filters of the next task, asked for while one computes, where each task reads filters of its own.

Such tasks are those of few positions and many channels. Filters that do not stay in the second cache come from the third, at each task's
beginning, and the CPU's own prefetching does not know what the next one begins with. So each turn of a task's innermost loop over a sum asks for
what the next task reads in the same turn; the vectors of a turn are shared among the tiles of positions.
"""

from __future__ import annotations

from math import prod
from typing import Any

import tvm
import tvm_ffi
from tvm import ir, tirx

from tvm_conv3dt.compiler.expressions import at, mentions, replaced
from tvm_conv3dt.compiler.prefetching import LINE_BYTES, ask_for, bytes_of
from tvm_conv3dt.compiler.tile_loops import loops_in, turn_number

__all__ = ["prefetch_tasks"]

_STAY_BYTES = 1 << 20
"""Filters of this size stay in the second caches of the cores that share them."""


def prefetch_tasks(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Let tasks of a lowered function, whose loops are no vectors yet, ask for the next one's filters, where these are many."""
    packed = function.params[1]
    if bytes_of(packed) <= _STAY_BYTES:
        return function

    def visit(loop: tirx.For) -> tirx.For:
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        body = _asking(loop, str(packed.name), tvm.DataType(packed.dtype).bits // 8)
        return tirx.For(
            loop.loop_var, loop.min, loop.extent, loop.kind, body, None, loop.annotations
        )

    return function.with_body(tvm_ffi.structural_map(function.body, (tirx.For, visit)))


def _asking(task: tirx.For, packed: str, bytes_each: int) -> Any:
    """Return the body of a task with prefetches, where its innermost loop over a sum reads filters of its own."""
    serial = [each for each in loops_in(task.body) if each.kind == tirx.ForKind.SERIAL]
    found = [each for each in serial if _loads(each, packed) and not _has_serial(each)]
    if len(found) != 1:
        return task.body
    (innermost,) = found
    loads = _loads(innermost, packed)
    index = loads[0].indices[0]
    if len(loads) > 1 or not mentions(index, task.loop_var) or _skips(innermost):
        return task.body
    around = [each for each in serial if innermost in loops_in(each.body)]
    # A loop over the taps that there are, of which there is one at most, has no constant extent.
    tiles = [
        each
        for each in around
        if isinstance(each.extent, tirx.IntImm) and not mentions(index, each.loop_var)
    ]
    count = prod(int(each.extent) for each in tiles)
    if count == 1:
        return task.body
    starts = _starts(index, loops_in(innermost.body), bytes_each)
    following = [(task.loop_var, task.loop_var + 1)]
    asked = [
        tirx.IfThenElse(
            turn_number(tiles) == n * count // len(starts),
            ask_for(loads[0].source, [replaced(start, following)]),
            None,
        )
        for n, start in enumerate(starts)
    ]

    def visit(loop: tirx.For) -> tirx.For:
        if not loop.loop_var.same_as(innermost.loop_var):
            return loop
        body = tirx.SeqStmt([*asked, loop.body])
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)

    return tvm_ffi.structural_map(task.body, (tirx.For, visit)) if starts else task.body


def _skips(loop: tirx.For) -> bool:
    """Whether some turns do less: what they are asked for as well takes longer then than it saves."""
    found: list[Any] = []
    tvm_ffi.structural_walk(loop, (tirx.IfThenElse, found.append))
    return bool(found)


def _has_serial(loop: tirx.For) -> bool:
    return any(each.kind == tirx.ForKind.SERIAL for each in loops_in(loop.body))


def _loads(part: Any, packed: str) -> list[Any]:
    found: list[Any] = []

    def visit(load: ir.TensorLoad) -> None:
        if str(load.source.name).startswith(packed):
            found.append(load)

    tvm_ffi.structural_walk(part, (ir.TensorLoad, visit))
    return found


def _starts(index: Any, loops: list[tirx.For], bytes_each: int) -> list[Any]:
    """Return where the lines begin that one turn reads; none where a vector is less than a line."""
    starts = [index]
    for loop in loops:
        if not mentions(index, loop.loop_var):
            continue
        extent = int(loop.extent)
        if loop.kind == tirx.ForKind.VECTORIZED:
            if extent * bytes_each < LINE_BYTES:
                return []
            turns: list[int] = list(range(0, extent, LINE_BYTES // bytes_each))
        else:
            turns = list(range(extent))
        starts = [at(start, {loop.loop_var: turn}) for start in starts for turn in turns]
    return starts
