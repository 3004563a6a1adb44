"""Filter packing: from TensorFlow's ``[kd, kh, kw, out, in]`` to what the kernels read.

Packed filters are ``[out / lanes, kd, kh, kw, in, lanes]``: one vector of output channels stands
together, and the vectors that one tap reads follow each other in memory. Channels that fill up the
last block are zero.
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir, te, tirx

from tvm_conv3dt.compiler.arguments import element_aligned
from tvm_conv3dt.spec import Workload

__all__ = ["define_packing", "packed_shape"]


def packed_shape(workload: Workload, lanes: int) -> tuple[int, ...]:
    """Return the shape of the packed filters: ``[blocks, kd, kh, kw, in, lanes]``."""
    blocks = -(-workload.out_channels // lanes)
    return (blocks, *workload.kernel, workload.in_channels, lanes)


def define_packing(workload: Workload, lanes: int, symbol: str) -> tirx.PrimFunc:
    """Return ``symbol(filters, packed)``, scheduled: it has no decision worth a search.

    Parameters
    ----------
    workload : Workload
        Whose filters are packed.
    lanes : int
        Channels of one block.
    symbol : str
        Name of the function.
    """
    out_channels = workload.out_channels
    filters = te.placeholder(workload.filters, workload.dtype, "filters")
    full = out_channels % lanes == 0

    def element(*index: Any) -> Any:
        cb, td, th, tw, ci, v = index
        value = filters[td, th, tw, cb * lanes + v, ci]
        if full:
            return value
        return tirx.if_then_else(
            cb * lanes + v < out_channels, value, tirx.const(0, workload.dtype)
        )

    packed = te.compute(packed_shape(workload, lanes), element, "packed")
    function = element_aligned(te.create_prim_func([filters, packed]), ["filters"])
    schedule = s_tir.Schedule(function.with_attr("global_symbol", symbol))
    loops = schedule.get_loops(schedule.get_sblock("packed"))
    schedule.parallel(schedule.fuse(*loops[:4]))
    return next(iter(schedule.mod.functions.values()))
