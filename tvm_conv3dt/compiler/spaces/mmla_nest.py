"""The nest for products of blocks: see `tvm_conv3dt.compiler.mmla_layout`.

Innermost are the instructions of one step: ``tile_h`` rows of ``tile_w`` pairs of positions times ``vectors`` vectors of channels, two
blocks each, over 4 input channels (`tvm_conv3dt.compiler.mmla`). Their sums stay in registers while taps and input channels run by; then
they are unpacked to rows, and stored with bias and activation. The orders of the loops around are those of
`tvm_conv3dt.compiler.spaces.channel_nest`; each task of "rows" and "panels" copies the rows that it reads, "filters" the whole
(small) input once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import gcd

from tvm import s_tir

from tvm_conv3dt.compiler.activation import EXPENSIVE
from tvm_conv3dt.compiler.mmla import BLOCK, DEPTH, mmla_intrinsics, multiplies_blocks
from tvm_conv3dt.compiler.mmla_layout import MmlaLayout
from tvm_conv3dt.compiler.spaces.channel_nest import ORDERS, stores_vectors
from tvm_conv3dt.compiler.spaces.point import (
    Choose,
    Family,
    Point,
    decider,
    mark,
)
from tvm_conv3dt.compiler.spaces.streams import stream_candidates
from tvm_conv3dt.compiler.spaces.tensorizing import tensorize
from tvm_conv3dt.compiler.spaces.workspace import inputs, most_bytes
from tvm_conv3dt.compiler.streaming import STREAM
from tvm_conv3dt.compiler.tap_loops import mark_tap_loops
from tvm_conv3dt.device import Device

__all__ = [
    "apply",
    "copied",
    "families",
    "points",
    "task_h_candidates",
    "tile_w_candidates",
    "within_bounds",
]


def families(layout: MmlaLayout, device: Device) -> Iterator[Family]:
    """Yield the structural choices: one design space each."""
    # As in `channel_nest`, where TVM simplifies the remainders of a dilation wrongly.
    dilated = any(axis.dilation > 1 for axis in layout.axes)
    whole = _bytes(layout, *layout.row_sizes) * layout.workload.batch
    small = not dilated and whole <= most_bytes(layout.workload)
    height = layout.axes[1].quotients
    for order in ORDERS if small else ORDERS[:2]:
        for vectors in range(1, min(4, layout.blocks) + 1):
            room = _pairs(device, vectors)
            for rows in range(1, min(height, max(1, room // layout.columns)) + 1):
                if order == "filters" or task_h_candidates(layout, device, rows):
                    yield Family(order, vectors, rows)


def points(layout: MmlaLayout, device: Device, family: Family) -> Iterator[Point]:
    """Yield the points of a family."""
    order, vectors, tile_h = family
    tasks = [1] if order == "filters" else task_h_candidates(layout, device, tile_h)
    streams = stream_candidates(layout, device)
    widths = tile_w_candidates(layout, device, vectors, tile_h)
    for tile_w, stream, task_h in product(widths, streams, tasks):
        yield Point(layout.name, order, vectors, tile_h, tile_w, stream, task_h)


def _pairs(device: Device, vectors: int) -> int:
    """Return the number of pairs of positions whose sums fit the registers beside their operands."""
    # One register holds a pair of positions, two for each vector hold filters; one is left for what comes next.
    filters = BLOCK * vectors
    return (device.vector_registers - 2 - filters) // filters


def tile_w_candidates(layout: MmlaLayout, device: Device, vectors: int, rows: int) -> list[int]:
    """Return the numbers of pairs of positions that a row of a tile may have."""
    room = max(1, _pairs(device, vectors) // rows)
    return list(range(1, min(room, layout.columns) + 1))


def task_h_candidates(layout: MmlaLayout, device: Device, rows: int) -> list[int]:
    """Return the numbers of rows of tiles that a task may take, with copies that stay within bounds.

    There may be none, where rows are put together.
    """
    height = layout.axes[1].quotients
    tiles = -(-height // rows)
    candidates = sorted({min(tiles, t) for t in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)})
    # A task's first tile must be a whole one: it would start early and read rows that only the task before has copied.
    candidates = [t for t in candidates if ((tiles - 1) // t * t + 1) * rows <= height]
    return [t for t in candidates if _small(layout, device, t, rows)]


def within_bounds(layout: MmlaLayout, device: Device, point: Point) -> bool:
    """Whether the copies that a point makes are allowed with so many cores as a device has."""
    return point.order == "filters" or _small(layout, device, point.task_h, point.tile_h)


def _small(layout: MmlaLayout, device: Device, tiles: int, rows: int) -> bool:
    most = most_bytes(layout.workload)
    return tiles == 1 or device.cores * copied(layout, tiles * rows) <= most


def copied(layout: MmlaLayout, rows: int) -> int:
    """Return the bytes of rows that a task of so many rows copies."""
    depth, height = (
        inputs(axis, folded, positions, sum(margin))
        for axis, folded, positions, margin in zip(
            layout.axes, layout.folded, (1, rows), layout.margins, strict=False
        )
    )
    return _bytes(layout, depth, height)


def _bytes(layout: MmlaLayout, planes: int, rows: int) -> int:
    """Return the bytes of copies of rows."""
    row = BLOCK * layout.row_length * layout.packed_channels
    return planes * rows * row * layout.itemsize


def apply(
    sch: s_tir.Schedule, layout: MmlaLayout, device: Device, family: Family, choose: Choose
) -> None:
    """Schedule an operator in place; as `tvm_conv3dt.compiler.spaces.llvm.apply`."""
    decide = decider(sch, choose)
    order, vectors, rows = family
    names = mmla_intrinsics(scalar=not multiplies_blocks(device))
    padded, accumulator, sums, y = map(sch.get_sblock, ("padded", "accumulator", "sums", "y"))
    mark(sch, y, layout.name, order)
    tile_c = decide("vectors", [vectors])
    tile_h = decide("tile_h", [rows])
    tile_w = decide("tile_w", tile_w_candidates(layout, device, vectors, rows))
    sch.annotate(y, STREAM, decide("stream", stream_candidates(layout, device)))

    n, qd, rd, qh, rh, p, rw, cb, i, half, e = sch.get_loops(y)
    qh_outer, qh_inner = sch.split(qh, [None, tile_h])
    p_outer, p_inner = sch.split(p, [None, tile_w])
    cb_outer, cb_inner = sch.split(cb, [None, tile_c])
    if order == "filters":
        parallel, middle = [cb_outer, rd, rh, rw], [n, qd, qh_outer, p_outer]
    else:
        qh_task, qh_outer = sch.split(
            qh_outer, [None, decide("task_h", task_h_candidates(layout, device, rows))]
        )
        parallel, channels = [n, qd, qh_task], [rw, cb_outer]
        tiles = [qh_outer, p_outer]
        middle = [rd, rh, *(tiles + channels if order == "rows" else channels + tiles)]
    sch.reorder(*parallel, *middle, qh_inner, p_inner, i, cb_inner, half, e)
    task = sch.fuse(*parallel)
    sch.parallel(task)

    for block in (sums, accumulator):
        sch.compute_at(block, middle[-1], preserve_unit_loops=True)
        sch.set_scope(block, 0, "local")
    *_, a_qh, _, a_p, _, a_cb, a_half, a_i, a_e, jd, jh, jw, kb, k = sch.get_loops(accumulator)
    sch.reorder(jd, jh, jw, kb, a_qh, a_p, a_cb, a_half, a_i, a_e, k)
    _unroll(sch, a_qh, a_p, a_cb, a_half)
    mark_tap_loops(sch, (jd, jh, jw), layout)
    *_, s_qh, _, s_p, _, s_cb, _, _, _ = sch.get_loops(sums)
    _unroll(sch, s_qh, s_p, s_cb)
    _store(sch, layout, [qh_inner, p_inner, i, cb_inner], [half, e])

    if order == "filters":
        sch.parallel(sch.fuse(*sch.get_loops(padded)[:-3]))
    else:
        sch.compute_at(padded, task, preserve_unit_loops=True)
    channels_of_position = sch.get_loops(padded)[-1]
    together = gcd(layout.workload.in_channels, DEPTH)
    sch.vectorize(sch.split(channels_of_position, [None, together])[1])

    initial = sch.decompose_reduction(accumulator, jd)
    *_, z_qh, _, z_p, _, z_cb, z_half, z_i, z_e = sch.get_loops(initial)
    _unroll(sch, z_qh, z_p, z_cb, z_half)
    sch.vectorize(sch.fuse(z_i, z_e))
    for block, name in ((accumulator, names.multiply), (sums, names.unpack)):
        # Where a tile sticks out the block has a condition, with which it matches no intrinsic: one around it takes that.
        sch.blockize(sch.get_loops(block)[-3])
        tensorize(sch, sch.get_loops(block)[-3:], name)


def _store(
    sch: s_tir.Schedule, layout: MmlaLayout, tile: list[object], channels: list[object]
) -> None:
    """Let results be stored by vectors of channels."""
    # Unrolled, an exponential for each vector of the tile is more code than all the rest.
    whole = stores_vectors(layout)
    if not (layout.workload.activation in EXPENSIVE and whole):
        _unroll(sch, *tile)
    lane = sch.fuse(*channels)
    if whole:
        sch.vectorize(lane)
    else:
        sch.unroll(lane)


def _unroll(sch: s_tir.Schedule, *loops: object) -> None:
    for loop in loops:
        sch.unroll(loop)
