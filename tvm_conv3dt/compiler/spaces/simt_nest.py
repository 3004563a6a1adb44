"""How a GPU computes without tensor cores: tiles in shared memory, and in each thread a tile in registers.

A block of threads takes a tile of positions and channels of one phase. For each tap, some input channels at a time,
its threads together bring the input's tile and the filters' to shared memory; each then reads what its own results
take, four neighbours at once. A thread's results are chunks of up to four by four, far enough apart that the threads of
a warp read neighbouring banks.
"""

from __future__ import annotations

from collections.abc import Iterator

from tvm import s_tir

from tvm_conv3dt.compiler.gemm_layout import GemmLayout
from tvm_conv3dt.compiler.spaces.point import Choose, GpuFamily, GpuPoint, decider, keep, mark
from tvm_conv3dt.compiler.spaces.threads import (
    fetch_ahead,
    fetch_filters,
    fetch_input,
    start,
    store_vector,
)
from tvm_conv3dt.compiler.tap_loops import mark_tap_loops
from tvm_conv3dt.device import Device

__all__ = ["ORDER", "apply", "families", "points", "threads_of"]

ORDER = "threads"

_CHUNK = 4
_SIZES = (1, 2, 4, 8)
_BANKS = 32
_WARP = 32


def threads_of(layout: GemmLayout, family: GpuFamily) -> int:
    """Return the threads of a block."""
    return layout.positions // family.rows * (layout.lanes // family.columns)


def families(layout: GemmLayout, device: Device) -> Iterator[GpuFamily]:
    """Yield the register tiles that fit."""
    assert device.gpu is not None
    few = layout.volume * layout.channels < _WARP  # no tile of them may make a warp
    for rows in _SIZES:
        for columns in _SIZES:
            if layout.positions % rows or layout.lanes % columns:
                continue
            family = GpuFamily(ORDER, rows, columns)
            threads = threads_of(layout, family)
            fit = threads % _WARP == 0 or (few and rows == columns == 1)
            if fit and threads <= device.gpu.threads_per_block // 2:
                yield family


def points(layout: GemmLayout, device: Device, family: GpuFamily) -> Iterator[GpuPoint]:
    """Yield the points of one family."""
    for unroll in _unroll_candidates(layout):
        yield GpuPoint(layout.name, *family, unroll)


def _unroll_candidates(layout: GemmLayout) -> list[int]:
    return [each for each in (4, 1, 8) if layout.depth % each == 0]


def apply(
    sch: s_tir.Schedule, layout: GemmLayout, device: Device, family: GpuFamily, choose: Choose
) -> None:
    """Schedule an operator in place: see `tvm_conv3dt.compiler.spaces.cuda.apply`."""
    decide = decider(sch, choose)
    gathered, filters, accumulator = map(sch.get_sblock, ("gathered", "filters", "accumulator"))
    mark(sch, accumulator, layout.name, family.order)
    for name in ("rows", "columns"):
        keep(sch, accumulator, name, decide(name, [getattr(family, name)]))
    unroll = decide("unroll", _unroll_candidates(layout))

    _, m, v = start(sch, layout)
    threads = (threads_of(layout, family),)
    chunk_m, chunk_v = min(_CHUNK, family.rows), min(_CHUNK, family.columns)
    m_chunk, m_thread, m = sch.split(m, [family.rows // chunk_m, None, chunk_m])
    v_chunk, v_thread, v = sch.split(v, [family.columns // chunk_v, None, chunk_v])
    sch.reorder(m_chunk, v_chunk, m_thread, v_thread, m, v)
    sch.bind(m_chunk, "vthread.y")
    sch.bind(v_chunk, "vthread.x")
    thread = sch.fuse(m_thread, v_thread)
    sch.bind(thread, "threadIdx.x")
    sch.unroll(m)
    vector = store_vector(layout, chunk_v) if layout.parts == 1 else chunk_v
    v, v_vector = sch.split(v, [None, vector])
    sch.unroll(v)
    sch.vectorize(v_vector)

    sch.set_scope(accumulator, 0, "local")
    sch.compute_at(accumulator, thread, preserve_unit_loops=True)
    *_, a_cb, a_m, a_v, jd, jh, jw, ci = sch.get_loops(accumulator)
    step, ci = sch.split(ci, [None, layout.depth])
    ci_outer, ci = sch.split(ci, [None, unroll])
    sch.reorder(jd, jh, jw, step, ci_outer, ci, a_cb, a_m, a_v)
    mark_tap_loops(sch, (jd, jh, jw), layout)

    for each in (gathered, filters):
        sch.set_scope(each, 0, "shared")
        sch.compute_at(each, step, preserve_unit_loops=True)
    for index in range(2):
        held = sch.cache_read(accumulator, index, "local")
        sch.compute_at(held, ci, preserve_unit_loops=True)
        sch.vectorize(sch.get_loops(held)[-1])
    fetch_input(sch, gathered, layout, threads)
    # Threads that bring neighbouring channels of one position write to different banks.
    sch.storage_align(gathered, 0, -2, _BANKS, _CHUNK)
    fetch_filters(sch, filters, layout, threads)

    fetch_ahead(sch, step, layout, threads)
    for loop in (ci, a_cb, a_m, a_v):
        sch.unroll(loop)
    initial = sch.decompose_reduction(accumulator, jd)
    for loop in sch.get_loops(initial)[-3:]:
        sch.unroll(loop)
