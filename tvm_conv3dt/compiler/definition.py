"""What is computed: the operator as a TE definition, phase by phase.

With ``o = s * q + r`` on every axis (see `tvm_conv3dt.phases`) each phase ``r`` is a dense convolution. A vector
holds output channels (`tvm_conv3dt.compiler.channel_definition`) or input channels
(`tvm_conv3dt.compiler.dot_definition`). How it is computed is not said here: that is a design space's affair
(`tvm_conv3dt.compiler.spaces`).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import tvm_ffi
from tvm import ir, s_tir, tirx

from tvm_conv3dt.compiler import channel_definition, dot_definition
from tvm_conv3dt.compiler.arguments import element_aligned, replace_arguments
from tvm_conv3dt.compiler.dot_layout import DotLayout
from tvm_conv3dt.compiler.layout import Layout

__all__ = ["VERSION", "AnyLayout", "define"]

# Part of the signature of schedules and logs: raise it with every change of the definition, of the
# packing, or of what a design space's loops mean.
VERSION = 2

AnyLayout: TypeAlias = Layout | DotLayout


def define(layout: AnyLayout, symbol: str = "main") -> tirx.PrimFunc:
    """Return the operator as an unscheduled function.

    Parameters
    ----------
    layout : Layout or DotLayout
        Of a float32 NDHWC workload.
    symbol : str
        Name of the function.

    Returns
    -------
    tvm.tirx.PrimFunc
        ``symbol(x, packed, [bias,] y)``, whose last block is ``y``. `x`, `bias` and `y` are only aligned to
        their elements, so that any array of the caller's serves; `packed` is aligned to 64 bytes.
    """
    if isinstance(layout, DotLayout):
        by_phases = dot_definition.define_dot(layout)
    else:
        by_phases = channel_definition.define_channels(layout)
    function = _store_to_output(by_phases, layout)
    return element_aligned(function, ["x", "bias"]).with_attr("global_symbol", symbol)


def _store_to_output(function: tirx.PrimFunc, layout: AnyLayout) -> tirx.PrimFunc:
    """Let block ``y`` store to the output tensor itself.

    TE can only define a tensor over its own index space, here that of the phases. The output is that
    tensor seen as NDHWC, less what lies past its end: there the store is conditional.
    """
    workload = layout.workload
    by_phase = function.params[-1]
    shape = (workload.batch, *workload.output_spatial, workload.out_channels)
    y = tirx.decl_buffer(shape, workload.dtype, "y", data_alignment=workload.itemsize)

    def position(index: Any) -> tuple[list[Any], list[Any]]:
        if isinstance(layout, DotLayout):
            return dot_definition.output_position(layout, index)
        return channel_definition.output_position(layout, index)

    def store(statement: tirx.BufferStore) -> Any:
        if not statement.buffer.same_as(by_phase):
            return statement
        where, exists = position(statement.indices)
        result = tirx.BufferStore(y, statement.value, where)
        return tirx.IfThenElse(tirx.all(*exists), result, None) if exists else result

    def block(sblock: s_tir.SBlock) -> s_tir.SBlock:
        if sblock.name_hint != "y":
            return sblock
        where, _ = position([v.var for v in sblock.iter_vars])
        region = tirx.BufferRegion(y, [ir.Range.from_min_extent(p, 1) for p in where])
        return s_tir.SBlock(sblock.iter_vars, sblock.reads, [region], "y", sblock.body)

    function = tvm_ffi.structural_map(function, [(tirx.BufferStore, store), (s_tir.SBlock, block)])
    return replace_arguments(function, {"y": y})
