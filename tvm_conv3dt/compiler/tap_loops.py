"""Loops over taps that take as many turns as the phase at hand has taps.

TE knows loops of a constant number of turns only. Where phases have different numbers of taps, and which phase it is
depends on the block of threads, a design space marks the loops, and their ends are set here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tvm_ffi
from tvm import ir, s_tir, tirx

from tvm_conv3dt.compiler.expressions import replaced
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.taps import tap_of
from tvm_conv3dt.phases import Axis

__all__ = ["mark_tap_loops", "shorten_tap_loops"]

_MARK = "conv3d_transpose.taps"


def mark_tap_loops(sch: s_tir.Schedule, loops: Iterable[Any], layout: Layout) -> None:
    """Mark the loops over the taps of depth, height and width in a schedule, where phases differ in them.

    None stands for a loop that is not there, or needs no mark.
    Sums must begin outside of them: a phase may take no turn at all.
    """
    for loop, axis, folded, name in zip(loops, layout.axes, layout.folded, "dhw", strict=True):
        if loop is not None and not folded and not axis.uniform:
            sizes = (axis.kernel, axis.stride, axis.dilation, axis.pad)
            sch.annotate(loop, _MARK, f"{name} {' '.join(map(str, sizes))}")


def shorten_tap_loops(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Set the ends of the marked loops of a function, whose blocks are still there."""

    def shorten(loop: tirx.For) -> Any:
        mark = loop.annotations.get(_MARK)
        if mark is None:
            return loop
        name, *sizes = str(mark).split()
        kernel, stride, dilation, pad = map(int, sizes)
        axis = Axis(1, stride, kernel, stride, dilation, pad)
        phase = _phase(loop, f"r{name}")
        others = {key: value for key, value in loop.annotations.items() if key != _MARK}
        body = loop.body
        if axis.taps == 1:
            # TVM no longer sees that of one turn, and would index arrays of registers by its number: they would be
            # in memory.
            body = replaced(body, [(loop.loop_var, loop.min)])
        return tirx.For(loop.loop_var, loop.min, _taps(axis, phase), loop.kind, body, None, others)

    return tvm_ffi.structural_map(function, (tirx.For, shorten))


def _taps(axis: Axis, r: Any) -> Any:
    """Return how many taps phase `r` has, as an expression: as `Axis.phase_taps`."""
    left = tirx.max(axis.kernel - tap_of(axis, 0, r, 0).number, 0)
    count = tirx.floordiv(left + (axis.tap_step - 1), axis.tap_step)
    if axis.gcd == 1:
        return count
    return tirx.Select(tirx.floormod(r + axis.pad, axis.gcd) == 0, count, 0)


def _phase(loop: tirx.For, name: str) -> Any:
    """Return what the blocks in a loop take for the phase called `name`, from outside of the loop."""
    found: list[Any] = []
    starts: list[
        tuple[ir.Var, Any]
    ] = []  # of the loops in here: there is one phase for all of them

    def visit_block(realize: s_tir.SBlockRealize) -> None:
        for var, value in zip(realize.block.iter_vars, realize.iter_values, strict=True):
            # A block around a tensor intrinsic has names of its own.
            if str(var.var.name).removeprefix("v_").removesuffix("_o") == name:
                found.append(value)

    def visit_loop(inner: tirx.For) -> None:
        starts.append((inner.loop_var, inner.min))

    tvm_ffi.structural_walk(loop, (s_tir.SBlockRealize, visit_block))
    tvm_ffi.structural_walk(loop.body, (tirx.For, visit_loop))
    return replaced(found[0], starts)
