"""The input that the next task copies, asked for while the unit multiplies with what this one has copied.

Copies read their input once, and where it comes from memory they wait for that more than they compute. What a task without zeros around its
rows reads is one stretch, and the next task's is another; so each step of a tile asks for a share of that.
"""

from __future__ import annotations

from math import prod
from typing import Any

import tvm_ffi
from tvm import ir, sym, tirx

from tvm_conv3dt.compiler.expressions import at, mentions, replaced
from tvm_conv3dt.compiler.prefetching import LINE_BYTES, ask_for, bytes_of
from tvm_conv3dt.compiler.tile_loops import (
    TileLoop,
    among_products,
    in_tasks,
    loops_in,
    nested,
    product_nest,
    turn_number,
)

__all__ = ["prefetch_inputs", "stretch"]

_STAY_BYTES = 32 << 20
"""An input of this size comes from the third cache, which copies wait for less: with 5 to 17 MB nothing was gained."""


def prefetch_inputs(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Let tasks of a lowered function, whose loops are no vectors yet, ask for the next one's input, where it is large."""
    x = function.params[0]
    size, bytes_each = bytes_of(x)
    if size <= _STAY_BYTES:
        return function
    line = LINE_BYTES // bytes_each

    def change(task: Any, tile: TileLoop) -> Any:
        found = stretch(task, str(x.name))
        if found is None or tile.task is None:
            return task
        source, start, elements = found
        following = replaced(start, [(tile.task, tile.task + 1)])
        if not sym.Analyzer().can_prove_equal(following - start, elements):
            return task  # it reads the same again, or elsewhere
        lines = -(-elements // line)

        def ask(step: Any) -> Any:
            nest = product_nest(step)
            if nest is None:
                return step
            loops, steps = nest
            counted = [each for each in loops if isinstance(each.extent, tirx.IntImm)]
            turns = [*tile.around, tile.loop, *counted]
            share = -(-lines // prod(int(each.extent) for each in turns))
            first = turn_number(turns) * share
            asked = [
                ask_for(source, [following + tirx.min(first + n, lines - 1) * line])
                for n in range(share)
            ]
            return nested(loops, among_products(steps, asked))

        sums = map(ask, tile.sums)
        return tile.with_body(task, tirx.SeqStmt([*tile.allocations, *sums, tile.store]))

    return in_tasks(function, change)


def stretch(task: Any, x: str) -> tuple[Any, Any, int] | None:
    """Return the array that a task reads elements of `x` from, where it begins, and how many, if these follow each other; else None."""
    found: list[Any] = []

    def visit(load: ir.TensorLoad) -> None:
        if str(load.source.name) == x:
            found.append(load)

    tvm_ffi.structural_walk(task, (ir.TensorLoad, visit))
    if not found:
        return None
    index = found[0].indices[0]
    loops = [each for each in loops_in(task) if mentions(index, each.loop_var)]
    start = at(index, {each.loop_var: 0 for each in loops})
    analyzer = sym.Analyzer()
    elements = 1
    for loop in reversed(loops):
        step = analyzer.simplify(
            at(index, {each.loop_var: int(each is loop) for each in loops}) - start
        )
        last = {each.loop_var: int(loop.extent) - 1 if each is loop else 0 for each in loops}
        whole = analyzer.simplify(at(index, last) - start)
        if not all(isinstance(each, tirx.IntImm) for each in (step, whole)):
            return None
        if int(step) != elements or int(whole) != elements * (int(loop.extent) - 1):
            return None
        elements *= int(loop.extent)
    return found[0].source, start, elements
