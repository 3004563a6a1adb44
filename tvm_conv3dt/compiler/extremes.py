"""The largest numbers that a task has met, and statements over regions, for passes over scheduled functions whose blocks are still there."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import tvm_ffi
from tvm import ir, s_tir, tirx

from tvm_conv3dt.compiler.expressions import at, replaced
from tvm_conv3dt.compiler.statements import opaque

__all__ = [
    "INFINITY",
    "Extremes",
    "annotated",
    "bits_of",
    "bound",
    "each_of",
    "watched_lanes",
    "with_memory",
]

INFINITY = 0x7F800000
"""The bits of a float32 that is infinite; those of NaN are more, and of smaller numbers less."""

_MAGNITUDE = 0x7FFFFFFF


class Extremes:
    """For each lane of a vector the largest of the bits that a task has met, signs aside.

    Parameters
    ----------
    lanes : int
        Lanes of the vectors that are looked at.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.buffer = tirx.decl_buffer((lanes,), "int32", "extremes", scope="local")
        self._whole = [ir.Range(0, lanes)]
        self._region = tirx.BufferRegion(self.buffer, self._whole)

    def clear(self) -> Any:
        """Return what a task begins with."""
        zero = tirx.const(0, "int32")
        body = each_of(self._whole, lambda lane: tirx.BufferStore(self.buffer, zero, lane))
        return opaque("cleared", [], [self._region], body)

    def begin(self, loop: tirx.For) -> tirx.For:
        """Return a loop over tasks, each of which has met nothing as it begins."""
        body = tirx.SeqStmt([self.clear(), loop.body])
        return tirx.For(
            loop.loop_var, loop.min, loop.extent, loop.kind, body, None, loop.annotations
        )

    def look(self, bits: Any, lane_of: Any) -> Any:
        """Return what looks at a vector: `bits` are `bits_of` the number in the lane of variable `lane_of`."""

        def store(lane: list[Any]) -> Any:
            extreme = tirx.max(
                tirx.BufferLoad(self.buffer, lane), replaced(bits, [(lane_of, *lane)])
            )
            return tirx.BufferStore(self.buffer, extreme, lane)

        return opaque("watched", [self._region], [self._region], each_of(self._whole, store))

    def keep(self, bits: int, met: Any) -> Any:
        """Return what writes to the one element of a buffer whether a number of so many bits, or a larger one, was met."""
        reached = tirx.Cast(met.dtype, self.reach(bits))
        store = tirx.BufferStore(met, reached, [tirx.const(0, "int32")])
        written = tirx.BufferRegion(met, [ir.Range(0, 1)])
        return opaque("kept", [self._region], [written], store)

    def reach(self, bits: int) -> Any:
        """Return whether a number of so many bits, or a larger one, was met."""
        lanes = (tirx.BufferLoad(self.buffer, [n]) for n in range(self.lanes))
        return reduce(tirx.max, lanes) >= bits


def annotated(step: Any, mark: str) -> s_tir.SBlockRealize | None:
    """Return the block that a step is, if it has an annotation."""
    found = step if isinstance(step, s_tir.SBlockRealize) else None
    return found if found is not None and mark in found.block.annotations else None


def watched_lanes(function: tirx.PrimFunc, mark: str) -> int | None:
    """Return the lanes of the vectors whose blocks have an annotation; None where there are none."""
    found: list[int] = []

    def visit(loop: tirx.For) -> None:
        if annotated(loop.body, mark) is not None:
            found.append(int(loop.extent))

    tvm_ffi.structural_walk(function, (tirx.For, visit))
    return found[0] if found else None


def with_memory(function: tirx.PrimFunc, buffers: list[Any]) -> tirx.PrimFunc:
    """Return a function whose root allocates some more buffers."""

    def root(block: s_tir.SBlock) -> Any:
        if block.name_hint != "root":
            return block
        every = [*block.alloc_buffers, *buffers]
        return s_tir.SBlock([], [], [], "root", block.body, alloc_buffers=every)

    return tvm_ffi.structural_map(function, (s_tir.SBlock, root))


def bits_of(value: Any) -> Any:
    """Return the bits of a float32, its sign aside."""
    return tirx.reinterpret("int32", value) & _MAGNITUDE


def bound(expression: Any, realize: s_tir.SBlockRealize, values: dict[Any, int]) -> Any:
    """Return an expression of a block by the loops around it, some of which have a value."""
    names = (each.var for each in realize.block.iter_vars)
    pairs = list(zip(names, realize.iter_values, strict=True))
    return at(replaced(expression, pairs), values)


def each_of(region: list[ir.Range], statement: Callable[[list[Any]], Any]) -> Any:
    """Return loops over a region around a statement of each place; the last is a vector."""
    loops = [tirx.Var("i", "int32") for _ in region]
    kinds = [*[tirx.ForKind.SERIAL] * (len(region) - 1), tirx.ForKind.VECTORIZED]
    result = statement([each.min + loop for each, loop in zip(region, loops, strict=True)])
    for loop, each, kind in reversed(list(zip(loops, region, kinds, strict=True))):
        result = tirx.For(loop, tirx.const(0, "int32"), each.extent, kind, result)
    return result
