"""The next panel of packed filters, asked for while the unit multiplies with one.

A panel is what the tiles of a task read before they turn to the next one. Filters that do not stay in the second cache come from the third,
which takes longer than a CPU looks ahead, and where a panel begins its own prefetching knows nothing. So with each step a tile asks for a
share of what the next panel has for the same step: its own, in the order of the tiles.
"""

from __future__ import annotations

from typing import Any

from tvm import sym, tirx

from tvm_conv3dt.compiler.amx_instructions import LOAD, arguments, is_a
from tvm_conv3dt.compiler.expressions import mentions, replaced
from tvm_conv3dt.compiler.prefetching import ask_in_turns, bytes_of
from tvm_conv3dt.compiler.tile_loops import TileLoop, among_products, in_tasks, turn_number
from tvm_conv3dt.compiler.unit_layout import DEPTH, SQUARE

__all__ = ["asking", "prefetch_panels"]

_STAY_BYTES = 1 << 20
"""Filters of this size stay in the second cache, of 2 MB where there is such a unit, beside what else a task reads."""


def prefetch_panels(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Let tasks of a lowered function, whose loops are no vectors yet, ask for filters ahead, where these are many."""
    packed = function.params[1]
    if bytes_of(packed) <= _STAY_BYTES:
        return function

    def change(task: Any, tile: TileLoop) -> Any:
        around = [*tile.around, tile.loop]

        def ask(_: list[tirx.For], steps: list[Any]) -> list[Any]:
            return asking(around, steps, str(packed.name))

        return tile.with_products(task, ask)

    return in_tasks(function, change)


def asking(around: list[tirx.For], steps: list[Any], packed: str) -> list[Any]:
    """Return the loads and products of a step of a tile with prefetches between these.

    Parameters
    ----------
    around : list of tvm.tirx.For
        The loops of a task that the tile is a turn of, from outside.
    steps : list
        The loads and products.
    packed : str
        How the name of the packed filters begins.
    """
    read = _read(steps, packed)
    if read is None:
        return steps
    buffer, start, elements = read
    of_panel = [n for n, loop in enumerate(around) if mentions(start, loop.loop_var)]
    if not of_panel or of_panel[-1] == len(around) - 1:
        return steps  # each tile has its own
    panels, turns = around[of_panel[0] : of_panel[-1] + 1], around[of_panel[-1] + 1 :]
    next_start = replaced(start, _following(panels))
    return among_products(steps, ask_in_turns(buffer, next_start, elements, turns))


def _read(steps: list[Any], packed: str) -> tuple[Any, Any, int] | None:
    """Return the array of filters as steps know it, where they read it first, and how many elements."""
    places = []
    for step in steps:
        if is_a(step, LOAD):
            element = arguments(step)[1].args[0]
            if str(element.source.name).startswith(packed):
                places.append((element.source, element.indices[0]))
    if not places:
        return None
    buffer, reference = places[0]
    analyzer = sym.Analyzer()
    distances = [analyzer.simplify(index - reference) for _, index in places]
    if not all(isinstance(each, tirx.IntImm) for each in distances):
        return None
    numbers = [int(each) for each in distances]
    return buffer, reference + min(numbers), max(numbers) - min(numbers) + SQUARE * DEPTH


def _following(loops: list[tirx.For]) -> list[tuple[Any, Any]]:
    """Return the variables of loops in each other with their values in the next turn; after the last turn is the first."""
    left, pairs = turn_number(loops) + 1, []
    for loop in reversed(loops):
        pairs.append((loop.loop_var, tirx.floormod(left, loop.extent)))
        left = tirx.floordiv(left, loop.extent)
    return pairs
