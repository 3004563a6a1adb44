"""The nest where output channels are in the lanes: phases with a register tile.

The innermost loops are the same everywhere: ``tile_h`` rows of ``tile_w`` positions times ``vectors`` vectors of
channels, unrolled, so that the accumulators stay in registers while taps and input channels run by; then
the tile is stored once, bias and activation on the way. Tiles at the end of a row or of the channels overlap with
those before them (`tvm_conv3dt.compiler.overlap`): no predicate runs in the inner loop.

What differs is the order of the loops around them::

    "rows"     parallel (n, qd, blocks of qh); rd, rh; qh, tiles of qw; rw, tiles of channels
    "panels"   parallel (n, qd, blocks of qh); rd, rh; rw, tiles of channels; qh, tiles of qw
    "filters"  parallel (tiles of channels, rd, rh, rw); n, qd, qh, tiles of qw

"rows" keeps a tile's input in cache and streams the filters, "panels" keeps a panel of filters and
streams the input rows of the task; both write the output in order. "filters" is for few positions and many channels: each
task reads its own filters, once.

With folded phases (see `tvm_conv3dt.compiler.layout`) the same nest runs over fewer phases and more channels.

Where the input needs zeros around it, each task of "rows" and "panels" copies the input rows it reads
into a padded buffer of its own; "filters" pads the (small) input once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any

from tvm import s_tir

from tvm_conv3dt.compiler.activation import EXPENSIVE
from tvm_conv3dt.compiler.definition import ROWS
from tvm_conv3dt.compiler.half_layout import HalfLayout
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.part_layout import PartLayout
from tvm_conv3dt.compiler.spaces.point import (
    Choose,
    Family,
    Point,
    decider,
    mark,
)
from tvm_conv3dt.compiler.spaces.row_copies import copy_input, turn_back
from tvm_conv3dt.compiler.spaces.streams import stream_candidates
from tvm_conv3dt.compiler.spaces.workspace import fits
from tvm_conv3dt.compiler.streaming import STREAM
from tvm_conv3dt.compiler.whole_layout import WholeLayout
from tvm_conv3dt.device import Device

__all__ = [
    "ORDERS",
    "apply",
    "families",
    "points",
    "stores_vectors",
    "task_h_candidates",
    "tile_w_candidates",
    "within_bounds",
]

ORDERS = ("rows", "panels", "filters")


def families(layout: Layout, device: Device) -> Iterator[Family]:
    """Yield the structural choices: one design space each."""
    # "filters" fuses the phases, where the remainders of a dilation are simplified wrongly: see `tvm_conv3dt.compiler.taps`.
    dilated = any(axis.dilation > 1 for axis in layout.axes)
    whole = (layout.axes[0].quotients, layout.axes[1].quotients)
    phases = prod(axis.phases for axis in layout.axes[:2])
    small = not dilated and fits(layout, whole, phases, copies=layout.workload.batch)
    _, height, width = (axis.quotients for axis in layout.axes)
    for order in ORDERS if small else ORDERS[:2]:
        for vectors in range(1, min(5, layout.blocks) + 1):
            room = _positions(layout, device, vectors)
            # Rows are put together where one alone does not fill the registers.
            for rows in range(1, min(height, max(1, room // width)) + 1):
                if layout.turned_back and height % rows:
                    continue  # one that is moved back would overwrite rows of the task before
                if not tile_w_candidates(layout, device, vectors, rows):
                    continue
                if order == "filters" or task_h_candidates(layout, device, rows):
                    yield Family(order, vectors, rows)


def points(layout: Layout, device: Device, family: Family) -> Iterator[Point]:
    """Yield the points of a family."""
    order, vectors, tile_h = family
    tasks = [1] if order == "filters" else task_h_candidates(layout, device, tile_h)
    streams = stream_candidates(layout, device)
    widths = tile_w_candidates(layout, device, vectors, tile_h)
    for tile_w, stream, task_h in product(widths, streams, tasks):
        yield Point(layout.name, order, vectors, tile_h, tile_w, stream, task_h)


def _positions(layout: Layout, device: Device, vectors: int) -> int:
    """Return the number of positions whose accumulators fit the registers beside their operands."""
    # One register holds the broadcast input, `vectors` hold filters.
    room = device.vector_registers - 1 - vectors
    # LLVM takes some for what it makes of the sums at the end, and then stores others in each turn.
    return room // (2 * vectors if isinstance(layout, PartLayout) else vectors)


def tile_w_candidates(layout: Layout, device: Device, vectors: int, rows: int) -> list[int]:
    """Return the numbers of positions that a row of a tile may have."""
    room = max(1, _positions(layout, device, vectors) // rows)
    if isinstance(layout, WholeLayout):
        return [layout.columns] * (layout.columns <= room)
    return list(range(1, min(room, layout.axes[2].quotients) + 1))


def task_h_candidates(layout: Layout, device: Device, rows: int) -> list[int]:
    """Return the numbers of rows of tiles that a task may take, with a workspace that stays within bounds.

    There may be none, where rows are put together.
    """
    height = layout.axes[1].quotients
    tiles = -(-height // rows)
    candidates = sorted({min(tiles, t) for t in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)})
    if layout.copied:
        # A task copies the input rows of its own tiles. Its first must be a whole one: it would start early and
        # read rows of the task before.
        candidates = [t for t in candidates if ((tiles - 1) // t * t + 1) * rows <= height]
    return [t for t in candidates if _small(layout, device, t, rows)]


def within_bounds(layout: Layout, device: Device, point: Point) -> bool:
    """Whether the copies that a point makes are allowed with so many cores as a device has."""
    return point.order == "filters" or _small(layout, device, point.task_h, point.tile_h)


def _small(layout: Layout, device: Device, tiles: int, rows: int) -> bool:
    return tiles == 1 or fits(layout, (1, tiles * rows), copies=device.cores)


def stores_vectors(layout: Layout) -> bool:
    """Whether the lanes of each vector stand together in the output."""
    return layout.together == layout.channels or layout.together % layout.stored_lanes == 0


def apply(
    sch: s_tir.Schedule, layout: Layout, device: Device, family: Family, choose: Choose
) -> None:
    """Schedule an operator in place; as `tvm_conv3dt.compiler.spaces.llvm.apply`."""
    decide = decider(sch, choose)
    order, vectors, rows = family
    y = sch.get_sblock("y")
    stored = sch.get_sblock(ROWS) if layout.turned_back else y
    accumulator = sch.get_sblock("accumulator")
    # Unrolled, an exponential for each vector of the tile is more code than all the rest; and a loop over the
    # tile would keep the accumulators out of registers, unless it goes over a copy.
    copied = layout.workload.activation in EXPENSIVE and stores_vectors(layout)
    if copied:
        tile = sch.cache_read(stored, 0, "local")
    n, qd, rd, qh, rh, qw, rw, cb, v = sch.get_loops(stored)
    mark(sch, y, layout.name, order)
    tile_c = decide("vectors", [vectors])
    tile_h = decide("tile_h", [rows])
    tile_w = decide("tile_w", tile_w_candidates(layout, device, vectors, rows))
    sch.annotate(y, STREAM, decide("stream", stream_candidates(layout, device)))
    qh_outer, qh_inner = sch.split(qh, [None, tile_h])
    qw_outer, qw_inner = sch.split(qw, [None, tile_w])
    cb_outer, cb_inner = sch.split(cb, [None, tile_c])
    if order == "filters":
        # Channels first: phases have different numbers of taps, and each core gets a share of the tasks in a row.
        parallel = [cb_outer, rd, rh, rw]
        middle = [n, qd, qh_outer, qw_outer]
    else:
        task_h = decide("task_h", task_h_candidates(layout, device, rows))
        qh_task, qh_outer = sch.split(qh_outer, [None, task_h])
        parallel = [n, qd, qh_task]
        row, positions, channels = [qh_outer], [qw_outer], [rw, cb_outer]
        middle = row + positions + channels if order == "rows" else channels + row + positions
        middle = [rd, rh, *middle]
    sch.reorder(*parallel, *middle, qh_inner, qw_inner, cb_inner, v)
    task = sch.fuse(*parallel)
    sch.parallel(task)

    if copied:
        sch.compute_at(tile, middle[-1], preserve_unit_loops=True)
    sch.compute_at(accumulator, middle[-1], preserve_unit_loops=True)
    sch.set_scope(accumulator, 0, "local")
    first, last = _sum_tile(sch, accumulator, layout.sum_loops)
    if copied:
        _register_tile(sch, *_tile_of(sch.get_loops(tile)))
        sch.vectorize(v)
    else:
        _register_tile(sch, qh_inner, qw_inner, cb_inner, v, vector=stores_vectors(layout))
    initial = sch.decompose_reduction(accumulator, first)
    _register_tile(sch, *_tile_of(sch.get_loops(initial)))
    if isinstance(layout, HalfLayout) and layout.sum_blocks > 1:
        _sum_blocks(sch, layout, last)

    if layout.turned_back:
        turn_back(sch, layout, None if order == "filters" else rd)
    copy_input(sch, layout, None if order == "filters" else task)


def _sum_tile(sch: s_tir.Schedule, block: Any, turns: int, of_block: int = 0) -> tuple[Any, Any]:
    """Put the loops of a sum, which are the last `turns`, around its register tile; return the outermost and the innermost.

    Before these are `of_block` loops of one turn, over what is an element of the block and no part of the tile.
    """
    loops = sch.get_loops(block)
    sums, others = loops[-turns:], loops[-turns - of_block : -turns]
    tile = _tile_of(loops[: -turns - of_block])
    sch.reorder(*others, *sums, *tile)
    _register_tile(sch, *tile)
    return sums[0], sums[-1]


def _sum_blocks(sch: s_tir.Schedule, layout: HalfLayout, at: Any) -> None:
    """Let each turn of the loop `at` make the sums of a block of float16, in registers of their own."""
    partial = sch.get_sblock("partial")
    sch.compute_at(partial, at, preserve_unit_loops=True)
    sch.set_scope(partial, 0, "local")
    first, _ = _sum_tile(sch, partial, layout.block_loops, layout.sum_loops)
    sch.decompose_reduction(partial, first)


def _tile_of(loops: list[Any]) -> tuple[Any, ...]:
    """Return the loops of a register tile: rows, positions of a row, vectors, lanes."""
    *_, qh, _, qw, _, cb, v = loops
    return qh, qw, cb, v


def _register_tile(sch: s_tir.Schedule, *tile: Any, vector: bool = True) -> None:
    """Unroll a tile, so that LLVM keeps it in registers; the last of its loops are the lanes of vectors."""
    *loops, lane = tile
    for loop in loops:
        sch.unroll(loop)
    if vector:
        sch.vectorize(lane)
    else:
        sch.unroll(lane)
