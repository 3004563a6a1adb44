"""Loops over the phases of an axis, written out: each phase has code of its own.

Where phases have different numbers of taps, their sums are different code. TE knows one body for all turns of a loop, with loops of a
constant number of turns. A design space marks the loops over phases, and those whose numbers of turns depend on the phase.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, s_tir, tirx

from tvm_conv3dt.compiler.expressions import replaced

__all__ = ["COPIED", "copy_phases", "mark_phases", "mark_turns"]

COPIED = "conv3d_transpose.copied"
"""Attribute of a function in which phases were written out."""

_PHASES = "conv3d_transpose.phases"
_TURNS = "conv3d_transpose.turns"


def mark_phases(sch: s_tir.Schedule, loop: Any, axis: str, taps: list[int]) -> None:
    """Mark a loop over the phases of an axis, which have so many taps."""
    sch.annotate(loop, _PHASES, f"{axis} {' '.join(map(str, taps))}")


def mark_turns(sch: s_tir.Schedule, loop: Any, axis: str, more: int) -> None:
    """Mark a loop that takes `more` turns than the phase of an axis has taps."""
    sch.annotate(loop, _TURNS, f"{axis} {more}")


def copy_phases(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Write out the marked loops of a scheduled function, whose blocks are still there; what is made in them has memory of its own."""
    made: list[Any] = []
    root = function.body.block

    def copies(loop: tirx.For) -> Any:
        mark = loop.annotations.get(_PHASES)
        if mark is None:
            return loop
        axis, *taps = str(mark).split()
        # Inner loops are written out by now, with memory of their own.
        written = _written(loop.body)
        own = [each for each in [*root.alloc_buffers, *made] if each in written]
        steps = []
        for phase, count in enumerate(map(int, taps)):
            memory = [(each, _like(each)) for each in own]
            made.extend(new for _, new in memory)
            pairs = [(loop.loop_var, tirx.const(phase, loop.loop_var.ty.dtype)), *memory]
            copy = _with_turns(replaced(loop.body, pairs), axis, count)
            # A loop of one turn keeps what it makes apart from what other copies make.
            steps.append(tirx.For(tirx.Var("phase", "int32"), 0, 1, tirx.ForKind.SERIAL, copy))
        return tirx.SeqStmt(steps)

    body = tvm_ffi.structural_map(function.body, (tirx.For, copies))
    if not made:
        return function
    root = body.block
    written = _written(root.body)
    kept = [each for each in [*root.alloc_buffers, *made] if each in written]
    block = s_tir.SBlock([], [], [], "root", root.body, alloc_buffers=kept)
    function = function.with_body(s_tir.SBlockRealize([], True, block)).with_attr(COPIED, 1)
    return tirx.transform.ConvertSSA()(ir.IRModule({"main": function}))["main"]


def _with_turns(body: Any, axis: str, taps: int) -> Any:
    """Return statements of a phase, in which loops of its axis take as many turns as it has taps, or some more."""

    def shorten(loop: tirx.For) -> Any:
        mark = loop.annotations.get(_TURNS)
        if mark is None or not str(mark).startswith(axis):
            return loop
        turns = tirx.const(taps + int(str(mark).split()[1]), loop.loop_var.ty.dtype)
        others = {key: value for key, value in loop.annotations.items() if key != _TURNS}
        return tirx.For(loop.loop_var, loop.min, turns, loop.kind, loop.body, None, others)

    return tvm_ffi.structural_map(body, (tirx.For, shorten))


def _written(part: Any) -> set[Any]:
    """Return the buffers that statements write."""
    found: set[Any] = set()

    def visit(store: tirx.BufferStore) -> None:
        found.add(store.buffer)

    tvm_ffi.structural_walk(part, (tirx.BufferStore, visit))
    return found


def _like(buffer: Any) -> Any:
    return tirx.decl_buffer(buffer.shape, buffer.dtype, buffer.name, scope=buffer.scope())
