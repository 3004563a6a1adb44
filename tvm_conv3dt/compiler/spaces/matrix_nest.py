"""How a GPU computes with tensor cores: float16 products, added in float32.

A block of threads takes a tile as in `tvm_conv3dt.compiler.spaces.simt_nest`; here its warps divide the tile, and each
multiplies squares of 16 by 16. Sums go to shared memory at the end, from where all threads store neighbouring channels.
"""

from __future__ import annotations

from collections.abc import Iterator

from tvm import s_tir

from tvm_conv3dt.compiler.fragments import SQUARE, fragments
from tvm_conv3dt.compiler.gemm_layout import GemmLayout
from tvm_conv3dt.compiler.spaces.point import Choose, GpuFamily, GpuPoint, decider, keep, mark
from tvm_conv3dt.compiler.spaces.threads import (
    divide,
    fetch_ahead,
    fetch_filters,
    fetch_input,
    start,
    store_vector,
)
from tvm_conv3dt.compiler.tap_loops import mark_tap_loops
from tvm_conv3dt.device import Device

__all__ = ["ORDER", "apply", "families", "points", "threads_of"]

ORDER = "warps"

_WARP = 32
_BANKS = 32
_PADDING = 8  # elements after each row of a tile, so that rows start in different banks
_STORE_VECTOR = 4


def threads_of(layout: GemmLayout, family: GpuFamily) -> int:
    """Return the threads of a block."""
    return layout.positions // family.rows * (layout.lanes // family.columns) * _WARP


def families(layout: GemmLayout, device: Device) -> Iterator[GpuFamily]:
    """Yield the tiles of a warp that fit."""
    assert device.gpu is not None
    for rows in (SQUARE, 2 * SQUARE, 4 * SQUARE):
        for columns in (SQUARE, 2 * SQUARE, 4 * SQUARE):
            if layout.positions % rows or layout.lanes % columns:
                continue
            family = GpuFamily(ORDER, rows, columns)
            if threads_of(layout, family) <= device.gpu.threads_per_block // 2:
                yield family


def points(layout: GemmLayout, device: Device, family: GpuFamily) -> Iterator[GpuPoint]:
    """Yield the points of one family."""
    yield GpuPoint(layout.name, *family)


def apply(
    sch: s_tir.Schedule, layout: GemmLayout, device: Device, family: GpuFamily, choose: Choose
) -> None:
    """Schedule an operator in place: see `tvm_conv3dt.compiler.spaces.cuda.apply`."""
    decide = decider(sch, choose)
    gathered, filters, accumulator = map(sch.get_sblock, ("gathered", "filters", "accumulator"))
    mark(sch, accumulator, layout.name, family.order)
    names = fragments()
    for name in ("rows", "columns"):
        keep(sch, accumulator, name, decide(name, [getattr(family, name)]))
    keep(sch, accumulator, "unroll", decide("unroll", [1]))

    tile, m, v = start(sch, layout)
    warps_m, warps_v = layout.positions // family.rows, layout.lanes // family.columns
    threads = (warps_m * warps_v, _WARP)
    vector = store_vector(layout, _STORE_VECTOR) if layout.parts == 1 else _STORE_VECTOR
    divide(sch, sch.fuse(m, v), threads, vector)

    # Sums of a tile: in the warps' fragments, then in shared memory.
    sch.set_scope(accumulator, 0, "shared")
    sums = sch.cache_write(accumulator, 0, "wmma.accumulator")
    sch.compute_at(sums, tile, preserve_unit_loops=True)
    *_, s_m, s_v = sch.get_loops(sums)
    s_m_warp, s_m, s_i = sch.split(s_m, [warps_m, None, SQUARE])
    s_v_warp, s_v, s_j = sch.split(s_v, [warps_v, None, SQUARE])
    sch.reorder(s_m_warp, s_v_warp, s_m, s_v, s_i, s_j)
    warp = sch.fuse(s_m_warp, s_v_warp)
    sch.bind(warp, "threadIdx.y")
    sch.storage_align(sums, 0, -2, _BANKS, _PADDING)

    sch.compute_at(accumulator, warp, preserve_unit_loops=True)
    *_, a_m, a_v, jd, jh, jw, ci = sch.get_loops(accumulator)
    a_m, a_i = sch.split(a_m, [None, SQUARE])
    a_v, a_j = sch.split(a_v, [None, SQUARE])
    step, ci, a_k = sch.split(ci, [None, layout.depth // SQUARE, SQUARE])
    sch.reorder(jd, jh, jw, step, ci, a_m, a_v, a_i, a_j, a_k)
    mark_tap_loops(sch, (jd, jh, jw), layout)

    for each in (gathered, filters):
        sch.set_scope(each, 0, "shared")
        sch.compute_at(each, step, preserve_unit_loops=True)
        sch.storage_align(each, 0, -2, _BANKS, _PADDING)
    for index, (name, load) in enumerate((("a", names.load_a), ("b", names.load_b))):
        held = sch.cache_read(accumulator, index, f"wmma.matrix_{name}")
        sch.compute_at(held, ci, preserve_unit_loops=True)
        h_i, h_j = sch.get_loops(held)[-2:]
        h_i, h_i_square = sch.split(h_i, [None, SQUARE])
        h_j, h_j_square = sch.split(h_j, [None, SQUARE])
        sch.reorder(h_i, h_j, h_i_square, h_j_square)
        for loop in (h_i, h_j):
            sch.unroll(loop)
        sch.tensorize(h_i_square, load)
    fetch_input(sch, gathered, layout, threads)
    fetch_filters(sch, filters, layout, threads)
    fetch_ahead(sch, step, layout, threads)

    for loop in (ci, a_m, a_v):
        sch.unroll(loop)
    initial = sch.decompose_reduction(accumulator, jd)
    sch.tensorize(sch.get_loops(initial)[-2], names.fill)
    sch.tensorize(a_i, names.multiply)
    sch.tensorize(s_i, names.store)
