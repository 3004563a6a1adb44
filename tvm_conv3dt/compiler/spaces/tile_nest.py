"""The nest for a CPU's matrix unit: tiles of some squares, whose sums stay in the unit's registers.

Innermost are the instructions of one step: ``squares`` squares of positions times those of channels, over 32 input channels
(`tvm_conv3dt.compiler.amx`). Around them taps and input channels run by; then the tile's sums go to memory that is near, and from
there, with bias and activation, to the output. What differs is the order of the loops around::

    "rows"     parallel (n, some qd, parts of a plane); qd, tiles of positions; rd, rh, rw, blocks of channels
    "panels"   parallel (n, some qd, parts of a plane); rd, rh, rw, blocks of channels; qd, tiles of positions
    "phases"   parallel (n, qd, parts of a plane, rd, rh); rw, blocks of channels; tiles of positions
    "filters"  parallel (blocks of channels, rd, rh, rw); n, qd, tiles of positions

as in `tvm_conv3dt.compiler.spaces.channel_nest`. "phases" is for split numbers, and "filters" is not. Each task of the first three
copies the rows that it reads, with zeros around them and after the last channel; "filters" copies the (small) input once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import gcd, prod
from typing import Any

from tvm import s_tir

from tvm_conv3dt.compiler.activation import EXPENSIVE
from tvm_conv3dt.compiler.amx import TileIntrinsics, tile_intrinsics
from tvm_conv3dt.compiler.definition import ROWS
from tvm_conv3dt.compiler.mending import MENDED, WATCHED
from tvm_conv3dt.compiler.spaces.point import (
    Choose,
    Family,
    Point,
    decider,
    keep,
    mark,
)
from tvm_conv3dt.compiler.spaces.row_copies import turn_back, turn_rows
from tvm_conv3dt.compiler.spaces.streams import stream_candidates
from tvm_conv3dt.compiler.spaces.tensorizing import tensorize
from tvm_conv3dt.compiler.spaces.workspace import inputs, most_bytes
from tvm_conv3dt.compiler.split_layout import SplitLayout
from tvm_conv3dt.compiler.streaming import STREAM
from tvm_conv3dt.compiler.tap_loops import mark_tap_loops
from tvm_conv3dt.compiler.tile_layout import TileLayout
from tvm_conv3dt.compiler.unit_layout import DEPTH, SQUARE
from tvm_conv3dt.device import Device

__all__ = ["ORDERS", "SPLIT_TILES", "TILES", "apply", "families", "fits", "points"]

ORDERS = ("rows", "panels", "phases", "filters")
_SUM_BYTES = 4

TILES = ((1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 1), (2, 2), (3, 1), (4, 1))
"""Squares of positions and channels that a tile may have."""

SPLIT_TILES = ((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1))
"""Those that a tile of split numbers may have: four registers or more are for operands."""


def families(layout: TileLayout, device: Device) -> Iterator[Family]:
    """Yield the structural choices: one design space each."""
    dilated = any(axis.dilation > 1 for axis in layout.axes)
    whole = layout.row_sizes[0] * layout.plane * layout.workload.batch
    bytes_copied = whole * layout.packed_channels * layout.itemsize
    orders = ["rows", "panels"]
    # Rows that are turned are copied for a task, where it reads or makes them.
    if not dilated and not layout.by_rows:
        if isinstance(layout, SplitLayout):
            # Pieces take so much memory that tasks are small, unless they read what one phase does.
            orders += ["phases"] * (prod(layout.phases[:2]) > 1)
        elif bytes_copied <= most_bytes(layout.workload):
            orders.append("filters")
    for order in orders:
        yield Family(order, layout.column_squares, layout.squares)


def points(layout: TileLayout, device: Device, family: Family) -> Iterator[Point]:
    """Yield the points of a family."""
    tasks = [(1, 1)] if family.order == "filters" else list(_tasks(layout, device, family.order))
    for stream, (tiles, planes) in product(stream_candidates(layout, device), tasks):
        yield Point(
            *(layout.name, family.order, family.vectors, family.tile_h),
            stream=stream,
            task_h=tiles,
            task_d=planes,
        )


def _tasks(layout: TileLayout, device: Device, order: str) -> Iterator[tuple[int, int]]:
    """Yield what a task may take of a plane, and of how many planes."""
    for share in task_candidates(layout, device, order):
        for planes in plane_candidates(layout, device, order):
            if planes == 1 or fits(layout, device, order, share, planes):
                yield share, planes


def _whole(layout: TileLayout) -> int:
    """Return what tasks share of a plane: tiles, or rows where tiles are of rows."""
    return layout.axes[1].quotients if layout.by_rows else layout.tiles


def task_candidates(layout: TileLayout, device: Device, order: str) -> list[int]:
    """Return the numbers of tiles, or rows of tiles, of a plane that a task may take, with copies that stay within bounds."""
    whole = _whole(layout)
    found = [each for each in range(1, whole + 1) if whole % each == 0]
    return [each for each in found if each == 1 or fits(layout, device, order, each, 1)]


def plane_candidates(layout: TileLayout, device: Device, order: str) -> list[int]:
    """Return the numbers of planes that a task may take; one only where its copies serve no other plane."""
    depth = layout.axes[0]
    if (layout.taps[0] if order == "phases" else inputs(depth, layout.folded[0], 1)) == 1:
        return [1]
    found = [each for each in (1, 2, 4, 8, 16) if depth.quotients % each == 0]
    return [each for each in found if each == 1 or fits(layout, device, order, 1, each)]


def within_bounds(layout: TileLayout, device: Device, point: Point) -> bool:
    """Whether the copies that a point makes are allowed with so many cores as a device has."""
    return fits(layout, device, point.order, point.task_h, point.task_d)


def fits(layout: TileLayout, device: Device, order: str, share: int, planes: int) -> bool:
    """Whether the copies of a task of each core stay within bounds, together; those of the smallest task always do."""
    if order == "filters" or share == planes == 1:
        return True
    return device.cores * copied(layout, order, share, planes) <= most_bytes(layout.workload)


def copied(layout: TileLayout, order: str, share: int, planes: int = 1) -> int:
    """Return the bytes of rows that a task copies, which takes so many tiles, or rows of tiles, of so many planes."""
    zeros = sum(layout.margins[0])
    read, reach = inputs(layout.axes[0], layout.folded[0], planes, zeros), layout.reach
    if order == "phases":
        taps_d, taps_h, _ = layout.taps
        read, reach = taps_d + planes - 1, (taps_h - 1) * layout.pitch + sum(layout.halo)
    positions = share * (layout.pitch if layout.by_rows else layout.positions) + reach
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
    y = sch.get_sblock("y")
    stored = sch.get_sblock(ROWS) if layout.turned_back else y
    mark(sch, y, layout.name, order)
    for name, value in (("vectors", family.vectors), ("tile_h", family.tile_h), ("tile_w", 1)):
        keep(sch, y, name, decide(name, [value]))
    sch.annotate(y, STREAM, decide("stream", stream_candidates(layout, device)))

    n, qd, rd, rh, rw, cb, share, *tiles, mi, nb, i, v = sch.get_loops(stored)
    if order == "filters":
        parallel, middle = [cb, rd, rh, rw], [n, qd, share]
    else:
        task, share = sch.split(
            share, [None, decide("task_h", task_candidates(layout, device, order))]
        )
        planes, qd = sch.split(
            qd, [None, decide("task_d", plane_candidates(layout, device, order))]
        )
        parallel = [n, planes, task]
        plane, channels = [qd], [rd, rh, rw, cb]
        if order == "phases":
            parallel, channels = [*parallel, rd, rh], [rw, cb]
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

    sums = _place_sums(sch, layout, middle[-1])
    _store(sch, layout, (nb, v))
    if layout.turned_back:
        turn_back(sch, layout, rd, SQUARE)
    _copy(sch, layout, None if order == "filters" else outer)

    _multiply(sch, layout, names, sums)


def _place_sums(sch: s_tir.Schedule, layout: TileLayout, tile: Any) -> Any:
    """Let the sums of a tile be made in registers, and return the block that has them in memory, from where they are stored."""
    accumulator = sch.get_sblock("accumulator")
    sch.set_scope(accumulator, 0, "local")
    made = [accumulator]
    if isinstance(layout, SplitLayout):
        made.insert(0, sch.get_sblock("corrections"))
        sch.set_scope(made[0], 0, "local")
        sums = sch.get_sblock("sums")
        sch.set_scope(sums, 0, "local")
    else:
        sums = sch.cache_write(accumulator, 0, "local")
    sch.compute_at(sums, tile, preserve_unit_loops=True)
    for block in made:
        sch.compute_at(block, tile, preserve_unit_loops=True)
        *_, mi, nb, i, v, jd, jh, jw, kb, k, e = sch.get_loops(block)
        sch.reorder(jd, jh, jw, kb, mi, nb, i, v, k, e)
        mark_tap_loops(sch, (jd, jh, jw), layout)
    return sums


def _multiply(sch: s_tir.Schedule, layout: TileLayout, names: TileIntrinsics, sums: Any) -> None:
    """Let the unit make the sums: those of all other products go on where those of the corrections are."""
    if not isinstance(layout, SplitLayout):
        _tensorize(sch, "accumulator", names.clear, names.multiply)
        tensorize(sch, sch.get_loops(sums)[-4:], names.store)
        return
    _tensorize(sch, "corrections", names.clear, names.correct)
    _tensorize(sch, "accumulator", names.go_on, names.multiply)
    tensorize(sch, sch.get_loops(sums)[-4:], names.store_both)
    sch.annotate(sch.get_sblock("sums_o"), MENDED, "corrections")


def _tensorize(sch: s_tir.Schedule, name: str, begin: str, multiply: str) -> None:
    """Let intrinsics begin a tile's sums, and add products to them."""
    block = sch.get_sblock(name)
    initial = sch.decompose_reduction(block, sch.get_loops(block)[-10])
    tensorize(sch, sch.get_loops(initial)[-4:], begin)
    tensorize(sch, sch.get_loops(block)[-6:], multiply)


def _copy(sch: s_tir.Schedule, layout: TileLayout, task: Any) -> None:
    """Let each task copy the rows of the input that it reads; None lets the whole input be copied, once."""
    padded = sch.get_sblock("padded")
    if task is not None:
        sch.compute_at(padded, task, preserve_unit_loops=True)
    *outer, positions, channels = sch.get_loops(padded)
    inner = [channels]
    if isinstance(layout, SplitLayout):  # of each position all channels, and of these all pieces
        *outer, blocks, pieces = outer
        inner = [blocks, pieces, channels]
        sch.reorder(positions, *inner)
        sch.unroll(pieces)
    if task is None:
        sch.parallel(sch.fuse(*outer, positions))
    else:
        if layout.turned:
            turned = sch.get_sblock("turned")
            sch.compute_at(turned, outer[-1], preserve_unit_loops=True)
            turn_rows(sch, turned, SQUARE, rows=1)
        if layout.pitch % SQUARE == 0:
            sch.split(positions, [None, SQUARE])  # which all lie in one row
    if isinstance(layout, SplitLayout):
        vectors, vector = sch.split(channels, [None, SQUARE])
        sch.reorder(vectors, pieces)  # which have the first steps in common
        sch.annotate(padded, WATCHED, 1)
        # A last vector that channels do not fill stands apart.
        sch.annotate(sch.fuse(blocks, vectors), "pragma_loop_partition_hint", 1)
    else:
        # One vector of what is in the input: of bfloat16 the channels of one product.
        together = gcd(layout.workload.in_channels, DEPTH * 2 // layout.workload.itemsize)
        _, vector = sch.split(channels, [None, together])
    sch.vectorize(vector)


def _store(sch: s_tir.Schedule, layout: TileLayout, loops: tuple[object, object]) -> None:
    """Let results be stored by vectors of channels."""
    nb, v = loops
    together = SQUARE
    if layout.channels < layout.lanes:
        together = gcd(layout.channels, SQUARE)
    if any(layout.folded):
        together = gcd(together, _neighbours(layout))
    outer, inner = sch.split(v, [None, together])
    # Of an exponential for each single number LLVM would have dozens of copies, and take half a minute.
    if together > 1 or layout.workload.activation not in EXPENSIVE:
        for loop in (nb, outer):
            sch.unroll(loop)
    sch.vectorize(inner)


def _neighbours(layout: TileLayout) -> int:
    """Return how many folded channels follow each other in the output."""
    width = layout.axes[2].phases if layout.folded[2] else 1
    return prod((layout.workload.out_channels, width))
