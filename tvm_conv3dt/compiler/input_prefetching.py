"""The input that the next task copies, asked for while the unit multiplies with what this one has copied.

Copies read their input once, and where it comes from memory they wait for that more than they compute. What a task without zeros around its
rows reads is one stretch, and the next task's is another; so each step of a tile asks for a share of that.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, sym, tirx

from tvm_conv3dt.compiler.expressions import at, mentions, replaced
from tvm_conv3dt.compiler.prefetching import ask_in_turns, bytes_of
from tvm_conv3dt.compiler.tile_loops import TileLoop, among_products, in_tasks, loops_in

__all__ = ["prefetch_inputs", "stretch"]

_STAY_BYTES = 32 << 20
"""An input of this size comes from the third cache, which copies wait for less: with 5 to 17 MB nothing was gained."""


def prefetch_inputs(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Let tasks of a lowered function, whose loops are no vectors yet, ask for the next one's input, where it is large."""
    x = function.params[0]
    if bytes_of(x) <= _STAY_BYTES:
        return function

    def change(task: Any, tile: TileLoop) -> Any:
        found = stretch(task, str(x.name))
        if found is None or tile.task is None:
            return task
        source, start, elements = found
        following = replaced(start, [(tile.task, tile.task + 1)])
        if not sym.Analyzer().can_prove_equal(following - start, elements):
            return task  # it reads the same again, or elsewhere

        def ask(loops: list[tirx.For], steps: list[Any]) -> list[Any]:
            counted = [each for each in loops if isinstance(each.extent, tirx.IntImm)]
            turns = [*tile.around, tile.loop, *counted]
            return among_products(steps, ask_in_turns(source, following, elements, turns))

        return tile.with_products(task, ask)

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
