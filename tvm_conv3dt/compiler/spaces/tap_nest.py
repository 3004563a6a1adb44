"""The nest where products with all taps are summed afterwards: see `tvm_conv3dt.compiler.tap_layout`.

Where the taps of depth are apart, too (``"dhw"``)::

    parallel (n, shares of depth, shares of height):
        planes of the input:
            tiles of positions: turned, a square at a time; tiles of filters: input channels
            qd, where all its planes are made:
                rd, qh, rh, vectors of the row: sums over taps, woven, stored

and where they are not (``"hw"``)::

    parallel (n, shares of depth, shares of height):
        planes of the input: turned, a square at a time
            qd, where all its planes are turned:
                rd:
                    tiles of positions, tiles of filters: taps of depth, input channels
                    qh, rh, vectors of the row: sums over taps of height and width, woven, stored

What is made of a plane stays in a ring as long as it is read: `tvm_conv3dt.compiler.rolling`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from typing import Any

from tvm import s_tir

from tvm_conv3dt.compiler.amx import register_rows, tile_intrinsics
from tvm_conv3dt.compiler.intrinsics import turned_pairs, woven
from tvm_conv3dt.compiler.rolling import ROLL
from tvm_conv3dt.compiler.spaces.point import (
    Choose,
    Family,
    Point,
    decider,
    keep,
    mark,
)
from tvm_conv3dt.compiler.spaces.streams import stream_candidates
from tvm_conv3dt.compiler.spaces.tensorizing import tensorize
from tvm_conv3dt.compiler.spaces.workspace import most_bytes, shares
from tvm_conv3dt.compiler.streaming import STREAM
from tvm_conv3dt.compiler.tap_layout import TapLayout
from tvm_conv3dt.compiler.tap_loops import mark_tap_loops
from tvm_conv3dt.compiler.tile_registers import REGISTER_ROWS
from tvm_conv3dt.compiler.unit_layout import DEPTH, SQUARE
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import Workload

__all__ = ["ORDER", "apply", "copied", "families", "points", "tasks", "within_bounds"]

ORDER = "taps"
_MOST_PLANES, _MOST_ROWS = 8, 4  # of sizes that a task may have along depth and height, the largest
_NEAR = 0.75  # of the second cache: what a task makes is read soon
_SUM_BYTES = 4


def tasks(workload: Workload, device: Device, apart: str) -> list[TapLayout]:
    """Return layouts of tasks that share planes and rows evenly, and whose copies stay within bounds, and near."""
    depth, height, _ = workload.phase_axes
    most = min(most_bytes(workload) / device.cores, _NEAR * device.l2_bytes)
    found = []
    for planes in shares(depth.quotients)[-_MOST_PLANES:]:
        layouts = [TapLayout.of(workload, apart, planes, rows) for rows in shares(height.quotients)]
        found += [each for each in layouts if copied(each) <= most][-_MOST_ROWS:]
    return found or [TapLayout.of(workload, apart, 1, 1)]


def within_bounds(layout: TapLayout, device: Device, point: Point) -> bool:
    """Whether the copies that a point makes are allowed with so many cores as a device has; those of the smallest task are."""
    if layout.planes == layout.task_rows == 1:
        return True
    return device.cores * copied(layout) <= most_bytes(layout.workload)


def copied(layout: TapLayout) -> int:
    """Return the bytes that a task takes for the turned input and the products."""
    positions = layout.tiles * layout.column_squares * SQUARE
    products = positions * layout.filter_blocks * layout.squares * SQUARE * _SUM_BYTES
    turned = positions * layout.packed_channels * layout.itemsize
    if layout.deep:
        return products * (layout.spans[0] + 1) + turned // layout.tiles
    return turned * (layout.spans[0] + 1) + products


def families(layout: TapLayout, device: Device) -> Iterator[Family]:
    """Yield the structural choices: there is one."""
    yield Family(ORDER, layout.column_squares, layout.squares)


def points(layout: TapLayout, device: Device, family: Family) -> Iterator[Point]:
    """Yield the points of a family."""
    for stream in stream_candidates(layout, device):
        yield Point(layout.name, family.order, family.vectors, family.tile_h, stream=stream)


def apply(
    sch: s_tir.Schedule, layout: TapLayout, device: Device, family: Family, choose: Choose
) -> None:
    """Schedule an operator in place; as `tvm_conv3dt.compiler.spaces.llvm.apply`."""
    decide = decider(sch, choose)
    y = sch.get_sblock("y")
    mark(sch, y, layout.name, family.order)
    for name, value in (("vectors", family.vectors), ("tile_h", family.tile_h), ("tile_w", 1)):
        keep(sch, y, name, decide(name, [value]))
    sch.annotate(y, STREAM, decide("stream", stream_candidates(layout, device)))

    if layout.filter_blocks == 1:
        rows = register_rows(layout.squares, layout.column_squares, layout.filters)
        sch.annotate(y, REGISTER_ROWS, rows)

    n, pd, qd, rd, ph, qh, rh, f, e = sch.get_loops(y)
    sch.reorder(n, pd, ph, qd, rd, qh, rh, f, e)
    task = sch.fuse(n, pd, ph)
    sch.parallel(task)
    together = sch.split(e, [None, SQUARE])
    sch.unroll(together[0])
    sch.vectorize(together[1])
    sch.annotate(f, "pragma_loop_partition_hint", 1)

    _place(sch, layout, task, rd, f)
    _turn(sch, layout)
    _multiply(sch, layout, device)
    _sum(sch, layout)


def _place(sch: s_tir.Schedule, layout: TapLayout, task: Any, phase: Any, vector: Any) -> None:
    """Put everything into the loops in which it is made: first, as TVM does not find who reads what an intrinsic reads."""
    products, accumulator, turned = map(sch.get_sblock, ("products", "accumulator", "turned"))
    for name in ("woven", "sums"):
        sch.compute_at(sch.get_sblock(name), vector, preserve_unit_loops=True)
        sch.set_scope(sch.get_sblock(name), 0, "local")
    sch.compute_at(products, task if layout.deep else phase, preserve_unit_loops=True)
    *outer, rb, mi, i, fb, nb, v = sch.get_loops(products)
    sch.reorder(fb, rb, mi, i, nb, v)
    sch.set_scope(accumulator, 0, "local")
    sch.compute_at(accumulator, rb, preserve_unit_loops=True)
    sch.compute_at(turned, fb if layout.deep else task, preserve_unit_loops=True)
    made = "products" if layout.deep else "turned"
    batch, share, plane, _ = outer[-4:] if layout.deep else sch.get_loops(turned)[-10:-6]
    sch.reorder(plane, batch, share)
    # Planes are the third dimension.
    sch.annotate(plane, ROLL, f"{made} 2 {layout.spans[0]}")


def _sum(sch: s_tir.Schedule, layout: TapLayout) -> None:
    """Sum a vector of results over the taps of height and width, and weave it."""
    sums, run = sch.get_sblock("sums"), sch.get_sblock("woven")
    g, v, *taps, jw = sch.get_loops(sums)[-5 if layout.deep else -4 :]
    sch.reorder(*taps, g, jw, v)
    for loop in (g, jw):
        sch.unroll(loop)
    sch.vectorize(v)
    mark_tap_loops(sch, (*([None] * (2 - len(taps))), *taps, None), layout)
    *_, g, v = sch.get_loops(sch.decompose_reduction(sums, taps[0]))
    sch.unroll(g)
    sch.vectorize(v)
    if layout.outputs == 1:
        sch.compute_inline(run)
    else:
        sch.tensorize(sch.get_loops(run)[-2], woven(SQUARE, layout.outputs))


def _multiply(sch: s_tir.Schedule, layout: TapLayout, device: Device) -> None:
    """Make the products of a tile."""
    accumulator, products = sch.get_sblock("accumulator"), sch.get_sblock("products")
    rows, columns, i, v, *turns, k, e = sch.get_loops(accumulator)[-7 if layout.deep else -8 :]
    sch.reorder(*turns, rows, columns, i, v, k, e)
    if not layout.deep:
        mark_tap_loops(sch, (turns[0], None, None), layout)
    initial = sch.decompose_reduction(accumulator, turns[0])
    scalar = "amx_bf16" not in device.cpu_features
    names = tile_intrinsics(layout.squares, layout.column_squares, scalar)
    tensorize(sch, sch.get_loops(initial)[-4:], names.clear)
    tensorize(sch, [rows, columns, i, v, k, e], names.multiply)
    tensorize(sch, sch.get_loops(products)[-4:], names.lay_out)


def _turn(sch: s_tir.Schedule, layout: TapLayout) -> None:
    """Turn the input, a square at a time."""
    turned, square = sch.get_sblock("turned"), sch.get_sblock("square")
    nb, k, _, _ = sch.get_loops(turned)[-4:]
    sch.set_scope(square, 0, "local")
    sch.compute_at(square, nb, preserve_unit_loops=True)
    *_, channels = sch.get_loops(square)
    # One vector of what is in the input: of bfloat16 the channels of one product.
    together = gcd(layout.workload.in_channels, DEPTH * 2 // layout.workload.itemsize)
    sch.vectorize(sch.split(channels, [None, together])[1])
    sch.tensorize(k, turned_pairs(DEPTH // 2, SQUARE, layout.packed_dtype))
