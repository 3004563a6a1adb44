"""Filter packing: from TensorFlow's ``[kd, kh, kw, out, in]`` to what the kernels read.

Packed filters are ``[blocks, td, th, tw, in, lanes]``: one vector of channels stands together, and the
vectors that one tap reads follow each other in memory. Channels that fill up the last block are zero, and
so are taps that a folded phase does not have.
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir, te, tirx

from tvm_conv3dt.compiler.arguments import element_aligned
from tvm_conv3dt.compiler.layout import Layout

__all__ = ["define_packing"]


def define_packing(layout: Layout, symbol: str) -> tirx.PrimFunc:
    """Return ``symbol(filters, packed)``, scheduled: it has no decision worth a search.

    Parameters
    ----------
    layout : Layout
        Whose filters are packed.
    symbol : str
        Name of the function.
    """
    workload = layout.workload
    filters = te.placeholder(workload.filters, workload.dtype, "filters")

    def element(*index: Any) -> Any:
        cb, td, th, tw, ci, v = index
        c = cb * layout.lanes + v
        *phases, out_channel = layout.channel(c)
        present = [c < layout.channels] if layout.channels % layout.lanes else []
        taps = []
        for axis, folded, tap, phase in zip(
            layout.axes, layout.folded, (td, th, tw), phases, strict=True
        ):
            if not folded:
                taps.append(tap)
                continue
            # o + pad == s * i + d * t, with o == s * q + phase and i == q + offset
            reach = phase + axis.pad - axis.stride * (tap + axis.offsets[0])
            taps.append(tirx.floordiv(reach, axis.dilation))
            present += [reach >= 0, taps[-1] < axis.kernel]
            if axis.dilation > 1:
                present.append(tirx.floormod(reach, axis.dilation) == 0)
        value = filters[(*taps, out_channel, ci)]
        if not present:
            return value
        return tirx.if_then_else(tirx.all(*present), value, tirx.const(0, workload.dtype))

    packed = te.compute(layout.packed_shape, element, "packed")
    function = element_aligned(te.create_prim_func([filters, packed]), ["filters"])
    schedule = s_tir.Schedule(function.with_attr("global_symbol", symbol))
    loops = schedule.get_loops(schedule.get_sblock("packed"))
    schedule.parallel(schedule.fuse(*loops[:4]))
    return next(iter(schedule.mod.functions.values()))
