"""The nest for a CPU's matrix unit: tiles of some squares, whose sums stay in the unit's registers.

Innermost are the instructions of one step: ``squares`` squares of positions times those of channels, over 32 input channels
(`tvm_conv3dt.compiler.amx`). Around them taps and input channels run by; then the tile's sums go to memory that is near, and from
there, with bias and activation, to the output. What differs is the order of the loops around::

    "rows"     parallel (n, some qd, parts of a plane); qd, tiles of positions; rd, rh, rw, blocks of channels
    "panels"   parallel (n, some qd, parts of a plane); rd, rh, rw, blocks of channels; qd, tiles of positions
    "filters"  parallel (blocks of channels, rd, rh, rw); n, qd, tiles of positions

as in `tvm_conv3dt.compiler.spaces.channel_nest`. Each task of the first two copies the rows that it reads, with zeros around them and
after the last channel; "filters" copies the (small) input once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import gcd, prod
from typing import Any

from tvm import s_tir

from tvm_conv3dt.compiler.amx import tile_intrinsics
from tvm_conv3dt.compiler.definition import ROWS
from tvm_conv3dt.compiler.spaces.point import (
    Choose,
    Family,
    Point,
    decider,
    keep,
    mark,
    stream_candidates,
)
from tvm_conv3dt.compiler.spaces.row_copies import turn_back, turn_rows
from tvm_conv3dt.compiler.spaces.tensorizing import tensorize
from tvm_conv3dt.compiler.spaces.workspace import inputs, most_bytes
from tvm_conv3dt.compiler.streaming import STREAM
from tvm_conv3dt.compiler.tap_loops import mark_tap_loops
from tvm_conv3dt.compiler.tile_layout import TileLayout
from tvm_conv3dt.compiler.unit_layout import DEPTH, SQUARE
from tvm_conv3dt.device import Device

__all__ = ["ORDERS", "TILES", "apply", "families", "points"]

ORDERS = ("rows", "panels", "filters")
_SUM_BYTES = 4

TILES = ((1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 1), (2, 2), (3, 1), (4, 1))
"""Squares of positions and channels that a tile may have."""


def families(layout: TileLayout, device: Device) -> Iterator[Family]:
    """Yield the structural choices: one design space each."""
    dilated = any(axis.dilation > 1 for axis in layout.axes)
    whole = layout.row_sizes[0] * layout.plane * layout.workload.batch
    small = not dilated and whole * layout.packed_channels * layout.itemsize <= most_bytes(
        layout.workload
    )
    # Rows that are turned are copied for a task, where it reads or makes them.
    for order in ORDERS if small and not layout.by_rows else ORDERS[:2]:
        yield Family(order, layout.column_squares, layout.squares)


def points(layout: TileLayout, device: Device, family: Family) -> Iterator[Point]:
    """Yield the points of a family."""
    tasks = [(1, 1)] if family.order == "filters" else list(_tasks(layout, device))
    for stream, (tiles, planes) in product(stream_candidates(layout.workload, device), tasks):
        yield Point(
            *(layout.name, family.order, family.vectors, family.tile_h),
            stream=stream,
            task_h=tiles,
            task_d=planes,
        )


def _tasks(layout: TileLayout, device: Device) -> Iterator[tuple[int, int]]:
    """Yield what a task may take of a plane, and the planes: several of them only where it takes all of each."""
    for share in task_candidates(layout, device):
        for planes in plane_candidates(layout, device):
            if planes == 1 or share == _whole(layout):
                yield share, planes


def _whole(layout: TileLayout) -> int:
    """Return what tasks share of a plane: tiles, or rows where tiles are of rows."""
    return layout.axes[1].quotients if layout.by_rows else layout.tiles


def task_candidates(layout: TileLayout, device: Device) -> list[int]:
    """Return the numbers of tiles, or rows of tiles, of a plane that a task may take, with copies that stay within bounds."""
    whole = _whole(layout)
    found = [each for each in range(1, whole + 1) if whole % each == 0]
    return [each for each in found if each == 1 or _fits(layout, device, each, 1)]


def plane_candidates(layout: TileLayout, device: Device) -> list[int]:
    """Return the numbers of planes that a task may take; one only where its copies serve no other plane."""
    depth = layout.axes[0]
    if inputs(depth, layout.folded[0], 1) == 1:
        return [1]
    found = [each for each in (1, 2, 4, 8, 16) if depth.quotients % each == 0]
    return [each for each in found if each == 1 or _fits(layout, device, _whole(layout), each)]


def _fits(layout: TileLayout, device: Device, share: int, planes: int) -> bool:
    return device.cores * copied(layout, share, planes) <= most_bytes(layout.workload)


def copied(layout: TileLayout, share: int, planes: int = 1) -> int:
    """Return the bytes of rows that a task copies, which takes so many tiles, or rows of tiles, of so many planes."""
    read = inputs(layout.axes[0], layout.folded[0], planes)
    positions = share * (layout.pitch if layout.by_rows else layout.positions) + layout.reach
    size = read * positions * layout.packed_channels * layout.itemsize
    if layout.turned:
        size += positions * layout.workload.in_channels * layout.workload.itemsize
    if layout.turned_back:
        _, height, width = layout.axes
        size += share * height.phases * width.output * layout.workload.out_channels * _SUM_BYTES
    return size


def apply(
    sch: s_tir.Schedule, layout: TileLayout, device: Device, family: Family, choose: Choose
) -> None:
    """Schedule an operator in place; as `tvm_conv3dt.compiler.spaces.llvm.apply`."""
    decide = decider(sch, choose)
    order = family.order
    scalar = "amx_bf16" not in device.cpu_features
    names = tile_intrinsics(layout.squares, layout.column_squares, scalar)
    accumulator, y = sch.get_sblock("accumulator"), sch.get_sblock("y")
    stored = sch.get_sblock(ROWS) if layout.turned_back else y
    mark(sch, y, layout.name, order)
    for name, value in (("vectors", family.vectors), ("tile_h", family.tile_h), ("tile_w", 1)):
        keep(sch, y, name, decide(name, [value]))
    sch.annotate(y, STREAM, decide("stream", stream_candidates(layout.workload, device)))

    n, qd, rd, rh, rw, cb, share, *tiles, mi, nb, i, v = sch.get_loops(stored)
    if order == "filters":
        parallel, middle = [cb, rd, rh, rw], [n, qd, share]
    else:
        task, share = sch.split(share, [None, decide("task_h", task_candidates(layout, device))])
        planes, qd = sch.split(qd, [None, decide("task_d", plane_candidates(layout, device))])
        parallel = [n, planes, task]
        plane, channels = [qd], [rd, rh, rw, cb]
        if layout.turned_back:  # at once all rows of a phase of a plane
            plane, channels = [qd, rd], [rh, rw, cb]
        inner = [share, *tiles]
        if order == "rows":
            middle = [*plane, *inner, *channels]
        elif layout.turned_back:
            middle = [*plane, *channels, *inner]
        else:
            middle = [*channels, *plane, *inner]
    sch.reorder(*parallel, *middle, mi, i, nb, v)
    outer = sch.fuse(*parallel)
    sch.parallel(outer)

    # Sums of a tile: in registers, then in memory, from where they are stored.
    sch.set_scope(accumulator, 0, "local")
    sums = sch.cache_write(accumulator, 0, "local")
    for block in (sums, accumulator):
        sch.compute_at(block, middle[-1], preserve_unit_loops=True)
    *_, a_mi, a_nb, a_i, a_v, jd, jh, jw, kb, k, e = sch.get_loops(accumulator)
    sch.reorder(jd, jh, jw, kb, a_mi, a_nb, a_i, a_v, k, e)
    mark_tap_loops(sch, (jd, jh, jw), layout)

    _store(sch, layout, (nb, v))
    if layout.turned_back:
        turn_back(sch, layout, rd, SQUARE)
    _copy(sch, layout, None if order == "filters" else outer)

    initial = sch.decompose_reduction(accumulator, jd)
    tensorize(sch, sch.get_loops(initial)[-4:], names.clear)
    tensorize(sch, sch.get_loops(accumulator)[-6:], names.multiply)
    tensorize(sch, sch.get_loops(sums)[-4:], names.store)


def _copy(sch: s_tir.Schedule, layout: TileLayout, task: Any) -> None:
    """Let each task copy the rows of the input that it reads; None lets the whole input be copied, once."""
    padded = sch.get_sblock("padded")
    if task is None:
        sch.parallel(sch.fuse(*sch.get_loops(padded)[:-1]))
    else:
        sch.compute_at(padded, task, preserve_unit_loops=True)
        *_, plane, positions, _ = sch.get_loops(padded)
        if layout.turned:
            turned = sch.get_sblock("turned")
            sch.compute_at(turned, plane, preserve_unit_loops=True)
            turn_rows(sch, turned, SQUARE, rows=1)
        if layout.pitch % SQUARE == 0:
            sch.split(positions, [None, SQUARE])  # which all lie in one row
    channels = sch.get_loops(padded)[-1]
    # One vector of what is in the input: of bfloat16 the channels of one product.
    together = gcd(layout.workload.in_channels, DEPTH * 2 // layout.workload.itemsize)
    sch.vectorize(sch.split(channels, [None, together])[1])


def _store(sch: s_tir.Schedule, layout: TileLayout, loops: tuple[object, object]) -> None:
    """Let results be stored by vectors of channels."""
    nb, v = loops
    together = SQUARE
    if layout.channels < layout.lanes:
        together = gcd(layout.channels, SQUARE)
    if any(layout.folded):
        together = gcd(together, _neighbours(layout))
    outer, inner = sch.split(v, [None, together])
    for loop in (nb, outer):
        sch.unroll(loop)
    sch.vectorize(inner)


def _neighbours(layout: TileLayout) -> int:
    """Return how many folded channels follow each other in the output."""
    width = layout.axes[2].phases if layout.folded[2] else 1
    return prod((layout.workload.out_channels, width))
