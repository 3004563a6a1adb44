"""The nest for Winograd's filtering: see `tvm_conv3dt.compiler.winograd_layout`.

    parallel (n, groups of depth, tasks of height and width); phases        in the order "points"
    phases; parallel (n, groups of depth, tasks of height and width)        in the order "phases"
        sums of inputs: groups, vectors of input channels, points
        tiles of output channels
            products: points, tiles of groups; input channels; a register tile of groups and vectors
            results: groups, vectors, results of a group

Sums of inputs and products stay in the second cache: as many groups are in a task as it holds. Each task reads all filters of its phases.
In the order "phases" those of one phase stay in a cache that all of them do not fit in, and the input is read once for each phase. Where
phases of an axis have different numbers of taps each phase has code of its own (`tvm_conv3dt.compiler.phase_copies`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

from tvm import s_tir

from tvm_conv3dt.compiler.activation import EXPENSIVE
from tvm_conv3dt.compiler.large_inputs import CHOSEN, LOOKED_AT, SPARED
from tvm_conv3dt.compiler.phase_copies import mark_phases, mark_turns
from tvm_conv3dt.compiler.spaces.point import (
    Choose,
    Family,
    Point,
    decider,
    keep,
    mark,
)
from tvm_conv3dt.compiler.spaces.streams import stream_candidates
from tvm_conv3dt.compiler.spaces.workspace import most_bytes, shares
from tvm_conv3dt.compiler.streaming import STREAM
from tvm_conv3dt.compiler.winograd_layout import WinogradLayout
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import Workload

__all__ = [
    "ORDERS",
    "PHASES",
    "POINTS",
    "apply",
    "copied",
    "families",
    "points",
    "tasks",
    "within_bounds",
]

ORDERS = POINTS, PHASES = "points", "phases"
_AXES = "dhw"
_MOST_GROUPS = 64  # of a task
_LEAST_GROUPS = 4
_NEAR = 1.0  # of the second cache: what a task makes is read soon, what it copies is read once
_LINE = 16  # elements of a line of the caches
_ITEMSIZE = 4


def tasks(workload: Workload, device: Device) -> list[WinogradLayout]:
    """Return layouts of tasks that share rows and columns evenly, and whose copies stay within bounds, and near."""
    most = min(most_bytes(workload) / device.cores, _NEAR * device.l2_bytes)
    found = []
    for choice in WinogradLayout.choices(workload, device.lanes(_ITEMSIZE)):
        _, height, width = choice.filterings
        for rows, columns in product(shares(height.tiles), shares(width.tiles)):
            layout = replace(choice, task_rows=rows, task_columns=columns)
            whole = rows == 1 or columns == width.tiles
            if whole and _LEAST_GROUPS <= layout.task_groups <= _MOST_GROUPS:
                found.append(layout)
    return [each for each in found if copied(each, 1) <= most]


def copied(layout: WinogradLayout, vectors: int) -> int:
    """Return the bytes that a task takes for copies of rows, their sums, and the products of so many vectors."""
    channels = layout.copied_channels
    points = prod(layout.points) * (layout.task_groups * (channels + vectors * layout.lanes))
    return _ITEMSIZE * (layout.copied_positions * channels + points)


def within_bounds(layout: WinogradLayout, device: Device, point: Point) -> bool:
    """Whether the copies that a point makes are allowed with so many cores as a device has."""
    return _allowed(layout, device, point.vectors)


def _allowed(layout: WinogradLayout, device: Device, vectors: int) -> bool:
    return device.cores * copied(layout, vectors) <= most_bytes(layout.workload)


def families(layout: WinogradLayout, device: Device) -> Iterator[Family]:
    """Yield the structural choices: one design space each."""
    for vectors in range(1, min(5, layout.blocks) + 1):
        if layout.blocks % vectors == 0 and _allowed(layout, device, vectors):
            yield from (Family(order, vectors) for order in ORDERS)


def points(layout: WinogradLayout, device: Device, family: Family) -> Iterator[Point]:
    """Yield the points of a family."""
    widths = _tile_w_candidates(layout, device, family.vectors)
    for tile_w, stream in product(widths, stream_candidates(layout, device)):
        yield Point(layout.name, family.order, family.vectors, tile_w=tile_w, stream=stream)


def _tile_w_candidates(layout: WinogradLayout, device: Device, vectors: int) -> list[int]:
    """Return the numbers of groups that a register tile may have: of those that make as many tiles the least."""
    room = (device.vector_registers - 1 - vectors) // vectors
    groups = layout.task_groups
    widths = {-(-groups // tiles) for tiles in range(1, groups + 1)}
    return [width for width in sorted(widths) if width <= room]


def apply(
    sch: s_tir.Schedule, layout: WinogradLayout, device: Device, family: Family, choose: Choose
) -> None:
    """Schedule an operator in place; as `tvm_conv3dt.compiler.spaces.llvm.apply`."""
    decide = decider(sch, choose)
    y = sch.get_sblock("y")
    mark(sch, y, layout.name, family.order)
    vectors = decide("vectors", [family.vectors])
    keep(sch, y, "tile_h", decide("tile_h", [1]))
    tile_w = decide("tile_w", _tile_w_candidates(layout, device, family.vectors))
    sch.annotate(y, STREAM, decide("stream", stream_candidates(layout, device)))

    *task, rd, rh, rw, cb, g, md, mh, mw, v = sch.get_loops(y)
    panel, cb = sch.split(cb, [None, vectors])
    if family.order == PHASES:
        sch.reorder(rd, rh, rw, *task, panel, g, cb, md, mh, mw, v)
    else:
        sch.reorder(*task, rd, rh, rw, panel, g, cb, md, mh, mw, v)
    task = sch.fuse(*task)
    sch.parallel(task)
    if layout.workload.activation not in EXPENSIVE:
        for loop in (md, mh, mw):
            sch.unroll(loop)
    sch.vectorize(v)

    _add_products(sch, layout, cb)
    _make_directly(sch, layout, cb)
    _multiply(sch, layout, panel, tile_w)
    _add_inputs(sch, layout, task if family.order == PHASES else rw)
    _copy(sch, layout, task)
    for loop, name, each in zip((rd, rh, rw), _AXES, layout.filterings, strict=True):
        if not each.axis.uniform:
            counts = [each.axis.phase_taps(r) for r in range(each.axis.phases)]
            mark_phases(sch, loop, name, counts)


def _mark(
    sch: s_tir.Schedule, layout: WinogradLayout, loops: list[Any], axes: str, taps: bool = False
) -> None:
    """Mark loops over points, or over the inputs that they are made of, of some axes; or over `taps`."""
    for loop, name in zip(loops, axes, strict=True):
        each = layout.filterings[_AXES.index(name)]
        if not each.axis.uniform:
            mark_turns(sch, loop, name, 0 if taps else each.results - 1)


def _in_registers(sch: s_tir.Schedule, name: str, at: Any, loops: int) -> list[Any]:
    """Let a block be made in registers, in a loop of its consumer; return its innermost loops, unrolled but for the last, a vector."""
    block = sch.get_sblock(name)
    sch.set_scope(block, 0, "local")
    sch.compute_at(block, at, preserve_unit_loops=True)
    *unrolled, lanes = sch.get_loops(block)[-loops:]
    for loop in unrolled:
        sch.unroll(loop)
    sch.vectorize(lanes)
    return [*unrolled, lanes]


def _add_products(sch: s_tir.Schedule, layout: WinogradLayout, at: Any) -> None:
    """Add up the products of a vector, along depth, height and width, in registers."""
    _in_registers(sch, "sums", at, 4)
    sch.annotate(sch.get_sblock("sums"), CHOSEN, 1)
    for name, axes in (("back_h", "w"), ("back_d", "hw")):
        *loops, _, _ = _in_registers(sch, name, at, 5)
        _mark(sch, layout, loops[-len(axes) :], axes)


def _make_directly(sch: s_tir.Schedule, layout: WinogradLayout, at: Any) -> None:
    """Make the results of a vector over taps, where large inputs were met."""
    direct = sch.get_sblock("direct")
    sch.set_scope(direct, 0, "local")
    sch.compute_at(direct, at, preserve_unit_loops=True)
    *loops, v, jd, jh, jw, ci = sch.get_loops(direct)[-8:]
    sch.reorder(*loops, jd, jh, jw, ci, v)
    sch.vectorize(v)
    sch.annotate(direct, SPARED, 1)
    _mark(sch, layout, [jd, jh, jw], _AXES, taps=True)


def _multiply(sch: s_tir.Schedule, layout: WinogradLayout, at: Any, tile_w: Any) -> None:
    """Make the products of a panel of filters, one point after the other."""
    products, accumulator = sch.get_sblock("products"), sch.get_sblock("accumulator")
    sch.compute_at(products, at, preserve_unit_loops=True)
    cb, *points, g, v = sch.get_loops(products)[-6:]
    outer, inner = sch.split(g, [None, tile_w])
    sch.reorder(*points, outer, inner, cb, v)
    _register_tile(sch, inner, cb, v)
    _mark(sch, layout, points, _AXES)
    # Points apart by an odd number of lines do not compete for the same places of a cache.
    sch.storage_align(products, 0, 10, 2 * _LINE, _LINE)

    sch.set_scope(accumulator, 0, "local")
    sch.compute_at(accumulator, outer, preserve_unit_loops=True)
    cb, _, _, _, g, v, k = sch.get_loops(accumulator)[-7:]
    sch.reorder(k, g, cb, v)
    _register_tile(sch, g, cb, v)
    initial = sch.decompose_reduction(accumulator, k)
    _register_tile(sch, *sch.get_loops(initial)[-3:])


def _register_tile(sch: s_tir.Schedule, groups: Any, vectors: Any, lanes: Any) -> None:
    sch.unroll(groups)
    sch.unroll(vectors)
    sch.vectorize(lanes)


def _add_inputs(sch: s_tir.Schedule, layout: WinogradLayout, at: Any) -> None:
    """Add up the inputs of a phase: a vector of channels at a time, along width, height and depth, in registers."""
    points = sch.get_sblock("points")
    sch.compute_at(points, at, preserve_unit_loops=True)
    pd, ph, pw, g, channels = sch.get_loops(points)[-5:]
    channels, lanes = sch.split(channels, [None, layout.lanes])
    sch.reorder(g, channels, pw, pd, ph, lanes)
    for loop in (pd, ph, pw):
        sch.unroll(loop)
    sch.vectorize(lanes)
    sch.storage_align(points, 0, 9, 2 * _LINE, _LINE)
    for name in ("along_h", "along_w"):
        _mark(sch, layout, _in_registers(sch, name, pw, 5)[:2], "dh")
    _mark(sch, layout, [pd, ph, pw], _AXES)


def _copy(sch: s_tir.Schedule, layout: WinogradLayout, task: Any) -> None:
    """Let each task copy what it reads of the input, with the zeros around it."""
    padded = sch.get_sblock("padded")
    sch.compute_at(padded, task, preserve_unit_loops=True)
    channels = sch.get_loops(padded)[-1]
    sch.vectorize(sch.split(channels, [None, layout.lanes])[1])
    sch.annotate(padded, LOOKED_AT, 1)
