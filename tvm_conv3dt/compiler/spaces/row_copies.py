"""How rows are copied on their way: those of the input, widened or with zeros around, and all that are turned.

What turning is: `tvm_conv3dt.compiler.turning`.
"""

from __future__ import annotations

from math import gcd
from typing import Any

from tvm import s_tir

from tvm_conv3dt.compiler.definition import AnyLayout
from tvm_conv3dt.compiler.pair_layout import PairLayout
from tvm_conv3dt.compiler.turning import TURN

__all__ = ["copy_input", "turn_back", "turn_rows"]


def copy_input(sch: s_tir.Schedule, layout: AnyLayout, task: Any) -> None:
    """Let each task copy the rows of the input that it reads, where the layout says so.

    Parameters
    ----------
    sch : tvm.s_tir.Schedule
        In which the rest is scheduled.
    layout : Layout or DotLayout
        What it computes.
    task : loop or None
        The parallel loop; None lets the whole input be copied, once.
    """
    outer = task
    for name in ["padded"] * layout.padded + ["turned"] * layout.turned:
        block = sch.get_sblock(name)
        if outer is None:
            sch.parallel(sch.fuse(*sch.get_loops(block)[:-2]))
        else:
            sch.compute_at(block, outer, preserve_unit_loops=True)
        # A row that is turned, or a plane of the task's rows, is padded while it is near.
        outer = sch.get_loops(block)[-3 if task is None else -4]
    if layout.padded:
        channels = sch.get_loops(sch.get_sblock("padded"))[-1]
        together = layout.lanes
        if isinstance(layout, PairLayout):
            together = gcd(layout.packed_channels, 2 * layout.lanes)
        sch.vectorize(sch.split(channels, [None, together])[1])
    if layout.turned:
        whole = task is None and not layout.padded  # its rows are fused
        turn_rows(sch, sch.get_sblock("turned"), layout.lanes, rows=0 if whole else 1)


def turn_back(sch: s_tir.Schedule, layout: AnyLayout, at: Any, lanes: int | None = None) -> None:
    """Let results be turned into the output.

    Parameters
    ----------
    sch : tvm.s_tir.Schedule
        In which the blocks that make the rows of results are scheduled.
    layout : Layout or DotLayout
        What it computes.
    at : loop or None
        Turns the rows that are made within it; None lets all be turned in the end.
    lanes : int or None
        Elements of a vector, where they are not the layout's lanes.
    """
    y = sch.get_sblock("y")
    if at is None:
        sch.parallel(sch.fuse(*sch.get_loops(y)[:-2]))
    else:
        sch.reverse_compute_at(y, at, preserve_unit_loops=True)
    # A position's phases are two loops.
    turn_rows(sch, y, lanes or layout.lanes, rows=0 if at is None else 2)


def turn_rows(sch: s_tir.Schedule, block: Any, lanes: int, rows: int) -> None:
    """Let a block turn tiles of at most `lanes` positions and channels; its last loops are `rows` over rows, and these."""
    loops = sch.get_loops(block)
    (w_outer, w_inner), (c_outer, c_inner) = (
        # Powers of two; tiles that would stick out overlap with those before (`tvm_conv3dt.compiler.overlap`).
        sch.split(loop, [None, min(lanes, 1 << (int(sch.get(loop).extent).bit_length() - 1))])
        for loop in loops[-2:]
    )
    # Rows inside of channels: those of one channel follow each other in memory, channels are far apart.
    sch.reorder(c_outer, *loops[-2 - rows : -2], w_outer, w_inner, c_inner)
    sch.unroll(w_inner)
    sch.unroll(c_inner)
    sch.annotate(block, TURN, 1)
