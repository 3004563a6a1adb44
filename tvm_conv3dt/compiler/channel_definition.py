"""What is computed where output channels are in the lanes: see `tvm_conv3dt.compiler.layout`.

With ``o = s * q + r`` on every axis (see `tvm_conv3dt.phases`)::

    accumulator[n, qd, rd, qh, rh, qw, rw, c] =
        sum over jd, jh, jw, ci of
            padded[n, input(qd, rd, jd), input(qh, rh, jh), input(qw, rw, jw), ci]
            * filters[tap(rd, jd), tap(rh, jh), tap(rw, jw), c, ci]

    y[n, s*qd + rd, s*qh + rh, s*qw + rw, c] = activation(accumulator[...] + bias[c])

Channels ``c`` stand as ``(cb, v)``, blocks of one vector each, and the filters arrive packed to match:
``packed[cb, td, th, tw, ci, v]`` (see `tvm_conv3dt.compiler.packing`). On an axis that is folded there is one phase
to loop over, ``j`` counts input positions, and ``c`` says which phase it is (see
`tvm_conv3dt.compiler.layout`). How it is computed is not said here: that is a design space's affair
(`tvm_conv3dt.compiler.spaces`).
"""

from __future__ import annotations

from typing import Any

from tvm import te, tirx

from tvm_conv3dt.compiler.activation import activation_of
from tvm_conv3dt.compiler.blocks import block_start
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.taps import inside, tap_of

__all__ = ["define_channels", "output_position"]


def define_channels(layout: Layout) -> tirx.PrimFunc:
    """Return the function with blocks ``padded`` (where rows need zeros around them), ``accumulator`` and ``y``.

    The latter stores by phases: ``y[n, qd, rd, qh, rh, qw, rw, cb, v]``.
    """
    workload, axes = layout.workload, layout.axes
    dtype = workload.dtype
    batch, in_channels = workload.batch, workload.in_channels
    zero = tirx.const(0, dtype)

    x = te.placeholder((batch, *workload.input_spatial, in_channels), dtype, "x")
    packed = te.placeholder(layout.packed_shape, dtype, "packed")
    bias = te.placeholder((workload.out_channels,), dtype, "bias")

    padded = x
    if layout.padded:
        before, after = layout.halo
        depth, height, width = workload.input_spatial

        def element(n: Any, d: Any, h: Any, w: Any, c: Any) -> Any:
            within = [w >= before] * (before > 0) + [w < width + before] * (after > 0)
            return tirx.if_then_else(tirx.all(*within), x[n, d, h, w - before, c], zero)

        shape = (batch, depth, height, before + width + after, in_channels)
        padded = te.compute(shape, element, "padded")

    taps = [te.reduce_axis((0, t), f"j{name}") for t, name in zip(layout.taps, "dhw", strict=True)]
    ci = te.reduce_axis((0, in_channels), "ci")

    def products(*index: Any) -> Any:
        n, qd, rd, qh, rh, qw, rw, cb, v = index
        positions, tap_numbers, present = [], [], []
        for axis, folded, q, r, j in zip(
            axes, layout.folded, (qd, qh, qw), (rd, rh, rw), taps, strict=True
        ):
            if folded:
                positions.append(q + j + axis.offsets[0])
                tap_numbers.append(j)
                continue
            tap = tap_of(axis, q, r, j)
            positions.append(tap.input)
            tap_numbers.append(tap.number)
            present += tap.present
        for axis, leaves, position in zip(axes, layout.leaves, positions, strict=False):
            present += inside(axis, position, leaves)
        positions[2] += layout.halo[0]
        product = padded[(n, *positions, ci)] * packed[(cb, *tap_numbers, ci, v)]
        if present:
            product = tirx.if_then_else(tirx.all(*present), product, zero)
        return te.sum(product, axis=[*taps, ci])

    domain = [batch]
    for axis, phases in zip(axes, layout.phases, strict=True):
        domain += [axis.quotients, phases]
    names = ["n", "qd", "rd", "qh", "rh", "qw", "rw", "cb", "v"]
    accumulator = te.compute(
        (*domain, layout.blocks, layout.lanes), products, "accumulator", varargs_names=names
    )
    activation = activation_of(workload)

    def result(*index: Any) -> Any:
        value = accumulator(*index)
        if workload.bias:
            channel = block_start(index[-2], layout.lanes, layout.channels) + index[-1]
            value = value + bias[layout.channel(channel)[-1]]
        return activation(value)

    y = te.compute(accumulator.shape, result, "y", varargs_names=names)
    return te.create_prim_func([x, packed, bias, y] if workload.bias else [x, packed, y])


def output_position(layout: Layout, index: Any) -> tuple[list[Any], list[Any]]:
    """Return the place in the output of an index by phases, and the conditions under which there is one."""
    n, qd, rd, qh, rh, qw, rw, cb, v = index
    channel = block_start(cb, layout.lanes, layout.channels) + v
    *folded_phases, out_channel = layout.channel(channel)
    spatial = [
        q * axis.stride + (inner if folded else r)
        for axis, folded, q, r, inner in zip(
            layout.axes, layout.folded, (qd, qh, qw), (rd, rh, rw), folded_phases, strict=True
        )
    ]
    exists = [p < a.output for p, a in zip(spatial, layout.axes, strict=True) if not a.exact]
    if layout.channels < layout.lanes:
        exists.append(channel < layout.channels)
    return [n, *spatial, out_channel], exists
