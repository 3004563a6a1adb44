"""The nest where input channels are in the lanes: see `tvm_conv3dt.compiler.dot_layout`.

The innermost loops accumulate the outputs of one vector of sums, or of a few, each in a register of its own, over
taps and blocks of input channels; then a tree of shuffles adds their lanes up. Around them::

    "rows"      parallel (n, qd, tasks of qh); rd, rh; qh; vectors of the row
    "columns"   parallel (n, qd, tasks of qh); vectors of the row; qh; rd, rh

and "rows-deep", "columns-deep" with qd in the task, outermost. "columns" reads a stretch of the input's rows for all
phases while it is near; a "deep" task finds the planes that its neighbours in depth share still in cache, and asks for the
next one (`tvm_conv3dt.compiler.prefetching`).

The input is read where it lies. The first and the last vector of a row, whose taps leave the input, are code of
their own, in which every condition is decided.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from tvm import s_tir

from tvm_conv3dt.compiler.definition import ROWS
from tvm_conv3dt.compiler.dot_layout import DOT_HALVES, DotLayout
from tvm_conv3dt.compiler.intrinsics import lane_sums
from tvm_conv3dt.compiler.prefetching import PREFETCHED
from tvm_conv3dt.compiler.spaces.point import (
    Choose,
    Family,
    Point,
    decider,
    keep,
    mark,
)
from tvm_conv3dt.compiler.spaces.row_copies import copy_input, turn_back
from tvm_conv3dt.compiler.spaces.workspace import fits
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import Workload

__all__ = [
    "ORDERS",
    "apply",
    "asks_ahead",
    "families",
    "holds_halves",
    "points",
    "task_h_candidates",
    "within_bounds",
]

ORDERS = ("rows", "columns", "rows-deep", "columns-deep")

# Registers beside the accumulators: filters of a row of taps, and inputs.
_OPERANDS = 6


def families(layout: DotLayout, device: Device) -> Iterator[Family]:
    """Yield the structural choices: order, and vectors of sums whose accumulators fit the registers."""
    most = max(1, (device.vector_registers - _OPERANDS) // layout.outputs)
    # Turned rows are copied: where a task has few of them.
    for order in ORDERS[:1] if layout.turned or layout.turned_back else ORDERS:
        for vectors in range(1, min(most, 4, layout.row_vectors) + 1):
            if layout.row_vectors % vectors == 0:
                yield Family(order, vectors)


def holds_halves(layout: DotLayout, device: Device) -> bool:
    """Whether halves of pairs are worth it: all inputs of a row of taps stay in registers from one half to the other.

    Where vectors of 16-bit numbers are widened by one operation, as on aarch64, there is nothing to gain.
    """
    live = layout.outputs + layout.inputs + layout.axes[2].kernel
    return device.arch == "x86_64" and live < device.vector_registers


def asks_ahead(workload: Workload, device: Device, order: str) -> bool:
    """Whether tasks ask for planes ahead: where they go through planes, which come from far."""
    size = prod(workload.input) * workload.itemsize
    return order.endswith("deep") and size > device.l2_bytes


def points(layout: DotLayout, device: Device, family: Family) -> Iterator[Point]:
    """Yield the points of a family."""
    for task_h in task_h_candidates(layout, device):
        yield Point(layout.formulation, family.order, family.vectors, task_h=task_h)


def task_h_candidates(layout: DotLayout, device: Device) -> list[int]:
    """Return the numbers of rows that a task may take, with a workspace that stays within bounds."""
    # A task that is cut short would make blocks conditional, and no match for an intrinsic.
    candidates = [t for t in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32) if layout.rows % t == 0]
    return [t for t in candidates if _small(layout, device, t)]


def within_bounds(layout: DotLayout, device: Device, point: Point) -> bool:
    """Whether the copies that a point makes are allowed with so many cores as a device has."""
    return _small(layout, device, point.task_h)


def _small(layout: DotLayout, device: Device, rows: int) -> bool:
    return rows == 1 or fits(layout, (1, rows), copies=device.cores)


def apply(
    sch: s_tir.Schedule, layout: DotLayout, device: Device, family: Family, choose: Choose
) -> None:
    """Schedule an operator in place; as `tvm_conv3dt.compiler.spaces.llvm.apply`."""
    decide = decider(sch, choose)
    order, vectors, _ = family
    accumulator, sums = (sch.get_sblock(name) for name in ("accumulator", "sums"))
    stored = sch.get_sblock(ROWS if layout.turned_back else "y")
    n, qd, rd, qh, rh, f, e = sch.get_loops(stored)
    mark(sch, stored, layout.formulation, order)
    tile = decide("vectors", [vectors])
    # Stores that pass by the caches wait for the buffers that this nest's loads need: slower wherever measured.
    for name, value in (("tile_h", 1), ("tile_w", 1), ("stream", 0)):
        keep(sch, stored, name, decide(name, [value]))
    task_h = decide("task_h", task_h_candidates(layout, device))
    task, qh = sch.split(qh, [None, task_h])
    f_outer, f_inner = sch.split(f, [None, tile])
    middle = [f_outer, qh, rd, rh] if order.startswith("columns") else [rd, rh, qh, f_outer]
    parallel, middle = (
        ([n, task], [qd, *middle]) if order.endswith("deep") else ([n, qd, task], middle)
    )
    sch.reorder(*parallel, *middle, f_inner, e)
    fused = sch.fuse(*parallel)
    sch.parallel(fused)
    sch.unroll(f_inner)
    sch.vectorize(e)
    sch.annotate(f_outer, "pragma_loop_partition_hint", 1)

    for block in (sums, accumulator):
        sch.compute_at(block, middle[-1], preserve_unit_loops=True)
        sch.set_scope(block, 0, "local")
    # Taps of the width innermost: neighbouring outputs share their inputs, which so are short-lived.
    # Halves of pairs one after the other: both together need more registers than there are.
    halves = int(layout.formulation == DOT_HALVES)
    *_, a_f, a_e, a_v, jd, jh, cb = sch.get_loops(accumulator)[: -1 - halves]
    *half, jw = sch.get_loops(accumulator)[-1 - halves :]
    sch.reorder(jd, jh, cb, *half, a_f, a_e, jw, a_v)
    for loop in (*half, a_f, a_e, jw):
        sch.unroll(loop)
    sch.vectorize(a_v)
    initial = sch.decompose_reduction(accumulator, jd)
    *_, i_f, i_e, i_v = sch.get_loops(initial)
    sch.unroll(i_f)
    sch.unroll(i_e)
    sch.vectorize(i_v)
    if asks_ahead(layout.workload, device, order):
        ahead = layout.axes[0].offsets[1] + 1
        sch.annotate(initial, PREFETCHED, f"{ahead} {layout.positions} {vectors}")

    *_, s_f, s_e, s_v = sch.get_loops(sums)
    sch.unroll(s_f)
    *_, z_e = sch.get_loops(sch.decompose_reduction(sums, s_e))
    sch.vectorize(z_e)
    if layout.outputs > 1:
        sch.tensorize(s_e, lane_sums(layout.lanes, layout.outputs, layout.workload.sum_dtype))
    else:
        # TVM drops the block's position along a loop of one turn, and no intrinsic matches what is left.
        sch.unroll(s_v)
    sch.compute_inline(sch.get_sblock("read"))
    if layout.turned_back:
        turn_back(sch, layout, qh)
    copy_input(sch, layout, fused)
