"""Filter packing: from TensorFlow's ``[kd, kh, kw, out, in]`` to what the kernels read.

Where output channels are in the lanes, packed filters are ``[blocks, td, th, tw, in, lanes]``: one vector of channels
stands together, and the vectors that one tap reads follow each other in memory. On GPUs the lanes are the channels of a
tile. For Winograd's filtering they are ``[blocks, sums of taps and taps, in, lanes]``. Taps that a folded phase does not have, and input channels that fill up a tile, are zero. Where lanes share output channels, input channels
are ``[in / parts]`` and lanes ``[out, parts]``. Where input channels are in the lanes, packed filters are ``[td, th, tw, out, blocks, lanes]``, and a
channel that two blocks share has half of its filter in each: a zero in one of them would make NaN of an
infinite input.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from tvm import s_tir, te, tirx

from tvm_conv3dt.compiler.arguments import element_aligned
from tvm_conv3dt.compiler.blocks import block_start
from tvm_conv3dt.compiler.definition import AnyLayout
from tvm_conv3dt.compiler.dot_layout import DOT_PAIRS, DotLayout
from tvm_conv3dt.compiler.elements import STORED_BFLOAT16, array_shape, narrow, stored_dtype, widen
from tvm_conv3dt.compiler.expressions import pick
from tvm_conv3dt.compiler.gemm_layout import GemmLayout
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.mmla import BLOCK
from tvm_conv3dt.compiler.mmla import DEPTH as QUAD
from tvm_conv3dt.compiler.mmla_layout import MmlaLayout
from tvm_conv3dt.compiler.pair_layout import PairLayout
from tvm_conv3dt.compiler.part_layout import PartLayout
from tvm_conv3dt.compiler.pieces import piece
from tvm_conv3dt.compiler.split_layout import SplitLayout
from tvm_conv3dt.compiler.tap_layout import TapLayout
from tvm_conv3dt.compiler.taps import folded_tap
from tvm_conv3dt.compiler.tile_layout import TileLayout
from tvm_conv3dt.compiler.unit_layout import DEPTH, SQUARE
from tvm_conv3dt.compiler.winograd import Form
from tvm_conv3dt.compiler.winograd_layout import WinogradLayout

__all__ = ["define_packing"]

_THREADS = 256  # of a block on a GPU


def define_packing(layout: AnyLayout, symbol: str) -> tirx.PrimFunc:
    """Return ``symbol(filters, packed)``, scheduled: it has no decision worth a search.

    Parameters
    ----------
    layout : Layout, DotLayout or GemmLayout
        Whose filters are packed.
    symbol : str
        Name of the function.
    """
    workload = layout.workload
    filters = te.placeholder(array_shape(workload.filters), stored_dtype(workload), "filters")

    def element(*index: Any) -> Any:
        if isinstance(layout, TapLayout):
            return _of_taps(layout, filters, index)
        if isinstance(layout, DotLayout):
            return _of_input_channels(layout, filters, index)
        if isinstance(layout, WinogradLayout):
            return _of_points(layout, filters, index)
        number = None
        if isinstance(layout, SplitLayout):
            *outer, number, nb, k, v, e = index
            index = *outer, nb, k, v, e
        if isinstance(layout, TileLayout):
            cb, td, th, tw, kb, nb, k, v, e = index
            index = cb, td, th, tw, kb * DEPTH + k * 2 + e, nb * SQUARE + v
        if isinstance(layout, MmlaLayout):
            cb, td, th, tw, kb, half, e, k = index
            index = cb, td, th, tw, kb * QUAD + k, half * BLOCK + e
        if isinstance(layout, PairLayout):
            cb, td, th, tw, k, v, e = index
            index = cb, td, th, tw, k * 2 + e, v
        if isinstance(layout, PartLayout):
            cb, td, th, tw, k, v = index
            index = cb, td, th, tw, k * layout.parts + v % layout.parts, v // layout.parts
        return _of_output_channels(layout, filters, index, number)

    packed = te.compute(layout.packed_shape, element, "packed")
    function = element_aligned(te.create_prim_func([filters, packed]), ["filters"])
    schedule = s_tir.Schedule(function.with_attr("global_symbol", symbol))
    loops = schedule.get_loops(schedule.get_sblock("packed"))
    if isinstance(layout, GemmLayout):
        block, thread = schedule.split(schedule.fuse(*loops), [None, _THREADS])
        schedule.bind(block, "blockIdx.x")
        schedule.bind(thread, "threadIdx.x")
    else:
        summed = isinstance(layout, WinogradLayout)
        if summed:
            # What a tap's factor is depends on neither channel.
            schedule.reorder(*loops[:2], *loops[4:], *loops[2:4])
        if isinstance(layout, SplitLayout):
            schedule.unroll(loops[5])  # pieces
        schedule.parallel(schedule.fuse(*loops[: 2 if summed else 4]))
        if summed:
            schedule.decompose_reduction(schedule.get_sblock("packed"), loops[4])
    return next(iter(schedule.mod.functions.values()))


def _of_output_channels(layout: Layout, filters: Any, index: Any, number: Any = None) -> Any:
    """Return a packed element, or piece `number` of one."""
    cb, td, th, tw, ci, v = index
    channel = block_start(cb, layout.lanes, layout.channels) + v
    *phases, out_channel = layout.channel(channel)
    present = [channel < layout.channels] if layout.channels < layout.lanes else []
    if layout.packed_channels > layout.workload.in_channels:
        present.append(ci < layout.workload.in_channels)
    taps = []
    for axis, folded, tap, phase in zip(
        layout.axes, layout.folded, (td, th, tw), phases, strict=True
    ):
        if not folded:
            taps.append(tap + axis.skipped)
            continue
        its_number, has = folded_tap(axis, phase, tap)
        taps.append(its_number + axis.skipped)
        present += has
    where = (*taps, out_channel, ci)
    if number is None:
        element = _as_packed(layout, filters, where)
    else:
        element = piece(filters[where], number, cast=False)
    if not present:
        return element
    return tirx.if_then_else(tirx.all(*present), element, tirx.const(0, layout.packed_dtype))


def _of_input_channels(layout: DotLayout, filters: Any, index: Any) -> Any:
    """Return a packed element."""
    td, th, tw, out_channel, cb, *rest = index
    channels, block = layout.workload.in_channels, layout.block_channels
    within = rest[0]
    if layout.pairs:
        v, e = rest if layout.formulation == DOT_PAIRS else reversed(rest)
        within = 2 * v + e
    channel = block_start(cb, block, channels) + within
    taps = [tap + axis.skipped for axis, tap in zip(layout.axes, (td, th, tw), strict=True)]
    stored = filters[(*taps, out_channel, channel)]
    element = widen(stored, filters.dtype)
    if channels % block:
        last, before = channels - block, (layout.in_blocks - 1) * block
        shared = tirx.all(channel >= last, channel < before)
        half = element * tirx.const(0.5, layout.workload.sum_dtype)
        if layout.packed_dtype != layout.workload.sum_dtype:
            return tirx.Select(shared, narrow(half, layout.packed_dtype), stored)
        return tirx.Select(shared, half, element)
    return stored if layout.packed_dtype == filters.dtype else element


def _of_points(layout: WinogradLayout, filters: Any, index: Any) -> Any:
    """Return a packed element: a sum of taps, or a tap itself."""
    cb, number, ci, v = index
    channel = block_start(cb, layout.lanes, layout.channels) + v
    sums, kernel = layout.filters, [axis.kernel for axis in layout.axes]
    alone = number >= prod(sums)
    forms = zip(
        layout.filterings,
        _unravel(number, sums),
        _unravel(number - prod(sums), kernel),
        strict=True,
    )
    factor: Any = 1.0
    turns, where = [], []
    for filtering, its_sum, tap in forms:
        j = te.reduce_axis((0, filtering.axis.taps), "j")
        its_tap, its_factor = _term(filtering.filters, its_sum, j, filtering.axis.taps)
        factor *= tirx.Select(alone, tirx.Cast("float32", j == 0), its_factor)
        where.append(tirx.Select(alone, tap, its_tap) + filtering.axis.skipped)
        turns.append(j)
    return te.sum(filters[(*where, channel, ci)] * factor, axis=turns)


def _term(forms: list[Form], number: Any, j: Any, terms: int) -> tuple[Any, Any]:
    """Return the tap of term `j` of a sum of taps, and its factor: 0 where the sum has fewer of at most so many `terms`."""
    found = [[*form.items(), *[(0, 0.0)] * (terms - len(form))] for form in forms]

    def chosen(which: int, dtype: str) -> Any:
        return pick(number, [pick(j, [tirx.const(t[which], dtype) for t in one]) for one in found])

    return chosen(0, "int32"), chosen(1, "float32")


def _unravel(number: Any, sizes: Sequence[int]) -> list[Any]:
    """Return the place of an element in an array, by its number in memory."""
    found = []
    for size in reversed(sizes[1:]):
        number, last = tirx.floordiv(number, size), tirx.floormod(number, size)
        found.append(last)
    return [number, *reversed(found)]


def _of_taps(layout: TapLayout, filters: Any, index: Any) -> Any:
    """Return a packed element."""
    block, td, kb, number, k = index
    channels, (depth, height, width) = layout.workload.out_channels, layout.axes
    which, channel = block * layout.squares * SQUARE + number, kb * DEPTH + k
    tap, out_channel = tirx.floordiv(which, channels), tirx.floormod(which, channels)
    th, tw = tirx.floordiv(tap, width.kernel), tirx.floormod(tap, width.kernel)
    if layout.deep:
        td, th = tirx.floordiv(th, height.kernel), tirx.floormod(th, height.kernel)
    taps = td + depth.skipped, th + height.skipped, tw + width.skipped
    element = _as_packed(layout, filters, (*taps, out_channel, channel))
    present = tirx.all(which < layout.filters, channel < layout.workload.in_channels)
    return tirx.if_then_else(present, element, tirx.const(0, layout.packed_dtype))


def _as_packed(layout: Layout, filters: Any, index: Any) -> Any:
    """Return a filter's element in the dtype of packed filters."""
    element = filters[index]
    if filters.dtype == layout.packed_dtype:
        return element
    rounded = layout.packed_dtype == STORED_BFLOAT16
    return narrow(element, STORED_BFLOAT16) if rounded else widen(element, filters.dtype)
