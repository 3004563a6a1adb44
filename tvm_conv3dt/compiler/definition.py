"""What is computed: the operator as a TE definition, phase by phase.

With ``o = s * q + r`` on every axis (see `tvm_conv3dt.phases`) each phase ``r`` is a dense convolution. A vector
holds output channels (`tvm_conv3dt.compiler.channel_definition`) or input channels
(`tvm_conv3dt.compiler.dot_definition`). How it is computed is not said here: that is a design space's affair
(`tvm_conv3dt.compiler.spaces`).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import tvm_ffi
from tvm import ir, s_tir, te, tirx

from tvm_conv3dt.compiler import (
    channel_definition,
    dot_definition,
    gemm_definition,
    mmla_definition,
    tap_definition,
    tile_definition,
    winograd_definition,
)
from tvm_conv3dt.compiler.arguments import element_aligned
from tvm_conv3dt.compiler.dot_layout import DotLayout
from tvm_conv3dt.compiler.elements import array_shape, index_of, narrow, stored_dtype
from tvm_conv3dt.compiler.expressions import replaced
from tvm_conv3dt.compiler.gemm_layout import GemmLayout
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.mmla_layout import MmlaLayout
from tvm_conv3dt.compiler.operands import Operands
from tvm_conv3dt.compiler.place import Place
from tvm_conv3dt.compiler.tap_layout import TapLayout
from tvm_conv3dt.compiler.tile_layout import TileLayout
from tvm_conv3dt.compiler.winograd_layout import WinogradLayout

__all__ = ["ROWS", "VERSION", "AnyLayout", "define"]

ROWS = "rows"
"""The block that makes rows of results with channels last, where the output has them first."""

# Part of the signature of schedules and logs: raise it with every change of the definition, of the
# packing, or of what a design space's loops mean.
VERSION = 2

AnyLayout: TypeAlias = Layout | DotLayout | GemmLayout | TapLayout | TileLayout


def define(layout: AnyLayout, symbol: str = "main") -> tirx.PrimFunc:
    """Return the operator as an unscheduled function.

    Parameters
    ----------
    layout : Layout or DotLayout
        Of any workload.
    symbol : str
        Name of the function.

    Returns
    -------
    tvm.tirx.PrimFunc
        ``symbol(x, packed, [bias,] y)``, whose last block is ``y``. `x`, `bias` and `y` are only aligned to
        their elements, so that any array of the caller's serves; `packed` is aligned to 64 bytes. Where channels come
        first, a block ``rows`` makes the results in rows of channels, which ``y`` turns.
    """
    workload = layout.workload
    operands = Operands.of(layout)
    name = ROWS if layout.turned_back else "y"
    if isinstance(layout, GemmLayout):
        results = [gemm_definition.define_gemm(layout, operands, name)]
    elif isinstance(layout, TapLayout):
        results = [tap_definition.define_taps(layout, operands, name)]
    elif isinstance(layout, TileLayout):
        results = [tile_definition.define_tiles(layout, operands, name)]
    elif isinstance(layout, MmlaLayout):
        results = [mmla_definition.define_mmla(layout, operands, name)]
    elif isinstance(layout, WinogradLayout):
        results = [winograd_definition.define_winograd(layout, operands, name)]
    elif isinstance(layout, DotLayout):
        results = [dot_definition.define_dot(layout, operands, name)]
    else:
        results = [channel_definition.define_channels(layout, operands, name)]
    if layout.turned_back:
        stored = stored_dtype(workload)
        rows = te.placeholder(_rows_shape(layout), workload.sum_dtype, "rows")
        cast = layout.rounds_at_the_end
        turn = te.compute(rows.shape, lambda *index: narrow(rows[index], stored, cast=cast), "y")
        results += [rows, turn]
    function = te.create_prim_func([*operands.arguments, *results])
    if isinstance(layout, TapLayout):
        function = tap_definition.read_whole_products(function)
    function = _store_in_order(function, layout)
    return element_aligned(function, ["x", "bias", "y"]).with_attr("global_symbol", symbol)


def _rows_shape(layout: AnyLayout) -> tuple[int, ...]:
    """Return the shape of rows of results: ``[n, qd, rd, qh, rh, width, channels]``."""
    workload = layout.workload
    depth, height, width = layout.axes
    return (
        *(workload.batch, depth.quotients, depth.phases, layout.rows, height.phases),
        *(width.output, workload.out_channels),
    )


def _place_of(layout: AnyLayout, index: Any) -> Place:
    if isinstance(layout, GemmLayout):
        return gemm_definition.place_of(layout, index)
    if isinstance(layout, TapLayout):
        return tap_definition.place_of(layout, index)
    if isinstance(layout, TileLayout):
        return tile_definition.place_of(layout, index)
    if isinstance(layout, MmlaLayout):
        return mmla_definition.place_of(layout, index)
    if isinstance(layout, WinogradLayout):
        return winograd_definition.place_of(layout, index)
    if isinstance(layout, DotLayout):
        return dot_definition.place_of(layout, index)
    return channel_definition.place_of(layout, index)


def _store_in_order(function: tirx.PrimFunc, layout: AnyLayout) -> tirx.PrimFunc:
    """Let results by phases be stored where they belong: in the output, or in rows that are turned into it.

    TE can only define a tensor over its own index space, here that of the phases. The output is that
    tensor seen in its own order, less what lies past its end: there the store is conditional.
    """
    workload, turned = layout.workload, layout.turned_back
    if turned:
        *arguments, by_phase, rows_argument, last = function.params
        rows = tirx.decl_buffer(rows_argument.shape, rows_argument.dtype, "rows")
    else:
        *arguments, last = function.params
        rows = None
    y = tirx.decl_buffer(array_shape(workload.output_shape), last.dtype, "y")

    def in_output(place: Place) -> tuple[Any, list[Any], list[Any]]:
        depth, height, _ = layout.axes
        (qd, rd), (qh, rh) = place.d, place.h
        d, h = qd * depth.stride + rd, qh * height.stride + rh
        exists = [d < depth.output] * (not depth.exact)
        exists += [h < height.output] * (layout.rows * height.phases != height.output)
        where = index_of(workload, place.n, d, h, place.w, place.c)
        return y, where, [*exists, *place.exists]

    def moved(buffer: Any, index: Any) -> tuple[Any, list[Any], list[Any]] | None:
        """Return the buffer and the place for what is stored in a buffer, and the conditions."""
        if buffer.same_as(last):
            if not turned:
                return in_output(_place_of(layout, index))
            n, qd, rd, qh, rh, w, c = index
            return in_output(Place(n, (qd, rd), (qh, rh), w, c, []))
        if turned and buffer.same_as(by_phase):
            place = _place_of(layout, index)
            return rows, [place.n, *place.d, *place.h, place.w, place.c], place.exists
        return None

    def ranges(buffer: Any, where: list[Any]) -> list[Any]:
        """Return what a block says that it writes."""
        points = [ir.Range.from_min_extent(each, 1) for each in where]
        if rows is None or not buffer.same_as(rows):
            return points
        # Whole rows: TVM could not prove that vectors of channels which overlap make up one.
        whole = [ir.Range(0, extent) for extent in rows.shape]
        folded = (False, False, layout.folded[0], False, layout.folded[1], True, True)
        return [w if all_ else p for w, all_, p in zip(whole, folded, points, strict=True)]

    def store(statement: tirx.BufferStore) -> Any:
        target = moved(statement.buffer, statement.indices)
        if target is None:
            return statement
        buffer, where, exists = target
        result = tirx.BufferStore(buffer, statement.value, where)
        return tirx.IfThenElse(tirx.all(*exists), result, None) if exists else result

    def block(each: s_tir.SBlock) -> s_tir.SBlock:
        if each.name_hint == "root" and turned:
            buffers = [*each.alloc_buffers, rows]
            return s_tir.SBlock([], [], [], "root", each.body, alloc_buffers=buffers)
        target = None
        if len(each.writes) == 1:
            target = moved(each.writes[0].source, [v.var for v in each.iter_vars])
        if target is None:
            return each
        buffer, where, _ = target
        region = tirx.BufferRegion(buffer, ranges(buffer, where))
        return s_tir.SBlock(each.iter_vars, each.reads, [region], each.name_hint, each.body)

    body = tvm_ffi.structural_map(function.body, [(tirx.BufferStore, store), (s_tir.SBlock, block)])
    function = tirx.PrimFunc([*arguments, y], body, function.ret_type, function.attrs)
    return replaced(function, [(rows_argument, rows)]) if turned else function
