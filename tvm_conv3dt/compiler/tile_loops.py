"""The loop over a matrix unit's tiles in a task of a lowered function, whose loops are no vectors yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm_ffi
from tvm import tirx

from tvm_conv3dt.compiler.amx_instructions import CLEAR, MULTIPLY, is_a, uses

__all__ = [
    "TileLoop",
    "among_products",
    "in_tasks",
    "loops_in",
    "nested",
    "product_nest",
    "steps_of",
    "turn_number",
]


class TileLoop:
    """The loop of which each turn makes a tile's sums, and stores the results.

    Attributes
    ----------
    loop : tvm.tirx.For
    around : list of tvm.tirx.For
        The loops of the task that it is in, from outside.
    task : tvm.ir.Var or None
        What counts the tasks; None where all is one.
    allocations, sums, store
        What the loop's body does: memory; sums, in some steps; and the loops that store results.
    """

    def __init__(self, loop: tirx.For, around: list[tirx.For], task: Any) -> None:
        self.task = task
        self.loop = loop
        self.around = around
        *before, self.store = steps_of(loop.body)
        self.allocations = [each for each in before if isinstance(each, tirx.AllocBuffer)]
        self.sums = [each for each in before if not isinstance(each, tirx.AllocBuffer)]

    @classmethod
    def of(cls, task: Any, y: str, number: Any = None) -> TileLoop | None:
        """Return the one in a task, counted by `number`, that stores to an array called `y`; None where there is none, or are several."""
        found = [loop for loop in loops_in(task) if _is_tile(loop, y)]
        if len(found) != 1:
            return None
        (tile,) = found
        around = [loop for loop in loops_in(task) if tile in loops_in(loop.body)]
        return cls(tile, around, number)

    def with_products(
        self, task: Any, change: Callable[[list[tirx.For], list[Any]], list[Any]]
    ) -> Any:
        """Return a task whose loads and products, in their loops, are what `change` makes of both."""

        def changed(step: Any) -> Any:
            nest = product_nest(step)
            return step if nest is None else nested(nest[0], change(*nest))

        sums = map(changed, self.sums)
        return self.with_body(task, tirx.SeqStmt([*self.allocations, *sums, self.store]))

    def with_body(self, task: Any, body: Any) -> Any:
        """Return a task with another body of the loop."""

        def visit(loop: tirx.For) -> Any:
            if not loop.loop_var.same_as(self.loop.loop_var):
                return loop
            return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)

        return tvm_ffi.structural_map(task, (tirx.For, visit))


def in_tasks(function: tirx.PrimFunc, change: Callable[[Any, TileLoop], Any]) -> tirx.PrimFunc:
    """Return a function with tasks that are changed where they have such a loop; one that has no tasks is one."""
    y = str(function.params[-1].name)
    tasks = False

    def changed(body: Any, number: Any = None) -> Any:
        tile = TileLoop.of(body, y, number)
        return body if tile is None else change(body, tile)

    def visit(loop: tirx.For) -> Any:
        nonlocal tasks
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        tasks = True
        body, kind = changed(loop.body, loop.loop_var), loop.kind
        return tirx.For(loop.loop_var, loop.min, loop.extent, kind, body, None, loop.annotations)

    body = tvm_ffi.structural_map(function.body, (tirx.For, visit))
    return function.with_body(body if tasks else changed(body))


def product_nest(step: Any) -> tuple[list[tirx.For], list[Any]] | None:
    """Return the loops of a step of a tile, from outside, and the statements in them, if these multiply; else None."""
    loops, body = [], step
    while isinstance(body, tirx.For):
        loops.append(body)
        body = body.body
    return (loops, steps_of(body)) if loops and uses(body, MULTIPLY) else None


def among_products(steps: list[Any], more: list[Any]) -> list[Any]:
    """Return the loads and products of a step of a tile with other statements between them, as even as can be."""
    products = sum(is_a(each, MULTIPLY) for each in steps)
    found, made = [], 0
    for step in steps:
        found.append(step)
        if is_a(step, MULTIPLY):
            found += more[made * len(more) // products : (made + 1) * len(more) // products]
            made += 1
    return found


def nested(loops: list[tirx.For], steps: list[Any]) -> Any:
    """Return loops in each other around other statements."""
    body = tirx.SeqStmt(steps) if len(steps) > 1 else steps[0]
    for loop in reversed(loops):
        body = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)
    return body


def loops_in(part: Any) -> list[tirx.For]:
    """Return all loops of a part of a function, outer ones first."""
    found: list[tirx.For] = []
    tvm_ffi.structural_walk(part, (tirx.For, found.append), order="pre")
    return found


def turn_number(loops: list[tirx.For]) -> Any:
    """Return the number of a turn of loops in each other."""
    number: Any = tirx.const(0, "int32")
    for loop in loops:
        number = number * int(loop.extent) + loop.loop_var
    return number


def steps_of(body: Any) -> list[Any]:
    """Return the statements that follow each other in a body."""
    if not isinstance(body, tirx.SeqStmt):
        return [body]
    return [step for each in body.seq for step in steps_of(each)]


def _is_tile(loop: tirx.For, y: str) -> bool:
    """Whether a loop's turns each make the sums of a tile, and then do nothing but to store its results."""
    steps = steps_of(loop.body)
    clears = any(is_a(each, CLEAR) for each in steps)
    return clears and isinstance(steps[-1], tirx.For) and _written(steps[-1]) == {y}


def _written(step: Any) -> set[str]:
    names: set[str] = set()
    tvm_ffi.structural_walk(step, (tirx.BufferStore, lambda each: names.add(str(each.buffer.name))))
    return names
