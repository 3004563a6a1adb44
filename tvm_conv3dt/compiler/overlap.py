"""Tiles that overlap: the last tile of an axis starts early enough to be a whole one.

A register tile that sticks out past the end of its axis would need a predicate in the innermost loops, or code
of its own; and twice as much code is where LLVM stops keeping accumulators in registers. The last tile is
moved back instead. It computes some results again: the same operations in the same order, so
the same bits.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, s_tir, sym, tirx

from tvm_conv3dt.compiler.expressions import at

__all__ = ["overlap_tiles"]


def overlap_tiles(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Return a scheduled function whose register tiles overlap where they would stick out.

    A register tile is an unrolled loop. Blocks bound to ``outer + inner`` under the condition
    ``outer + inner < extent``, with such a loop's variable ``inner``, are bound to
    ``min(outer, extent - size) + inner`` without a condition; so are those bound to a constant more.
    """
    sizes: dict[Any, int] = {}
    analyzer = sym.Analyzer()

    def collect(loop: tirx.For) -> None:
        analyzer.bind(loop.loop_var, ir.Range.from_min_extent(loop.min, loop.extent))
        if loop.kind == tirx.ForKind.UNROLLED and isinstance(loop.extent, tirx.IntImm):
            sizes[loop.loop_var] = int(loop.extent)

    tvm_ffi.structural_walk(function, (tirx.For, collect))

    def realize(block: s_tir.SBlockRealize) -> Any:
        values, kept = list(block.iter_values), []
        for condition in _conjuncts(block.predicate):
            place, offset = _place(condition, values, analyzer)
            inner = [] if place is None else _variables(values[place], sizes)
            if place is None or len(inner) != 1:
                kept.append(condition)
                continue
            start = at(values[place], {inner[0]: 0})
            last = tirx.const(int(condition.b) + offset - sizes[inner[0]], "int32")
            values[place] = tirx.min(start, last) + inner[0]
        predicate = tirx.all(*kept) if kept else tirx.const(True, "bool")
        return s_tir.SBlockRealize(values, predicate, block.block)

    return tvm_ffi.structural_map(function, [(s_tir.SBlockRealize, realize)])


def _conjuncts(condition: Any) -> list[Any]:
    if isinstance(condition, tirx.And):
        return [*_conjuncts(condition.a), *_conjuncts(condition.b)]
    return [] if isinstance(condition, tirx.IntImm) and int(condition) else [condition]


def _place(condition: Any, values: list[Any], analyzer: sym.Analyzer) -> tuple[int | None, int]:
    """Return which of a block's values a condition bounds by a constant, and how much the value is more than what is bounded.

    It is more where a block goes over a part of an axis only: an explicit padding may leave the first rows unread.
    """
    if isinstance(condition, tirx.LT) and isinstance(condition.b, tirx.IntImm):
        for place, value in enumerate(values):
            # Equal, not the same: TVM factors one only, or knows from a loop's extent that a remainder is none.
            if analyzer.can_prove_equal(value, condition.a):
                return place, 0
        for place, value in enumerate(values):
            difference = analyzer.simplify(value - condition.a)
            if isinstance(difference, tirx.IntImm):
                return place, int(difference)
    return None, 0


def _variables(expression: Any, among: dict[Any, int]) -> list[Any]:
    """Return the variables in an expression that are `among` some and have more than one value."""
    found: list[Any] = []

    def visit(variable: tirx.Var) -> None:
        if among.get(variable, 1) > 1 and variable not in found:
            found.append(variable)

    tvm_ffi.structural_walk(expression, (tirx.Var, visit))
    return found
