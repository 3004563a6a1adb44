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
`tvm_conv3dt.compiler.layout`). With pairs of input channels ``ci`` counts pairs, and filters are
``packed[cb, td, th, tw, ci, v, 2]`` (see `tvm_conv3dt.compiler.pair_layout`). How it is computed is not said here: that is a design space's affair
(`tvm_conv3dt.compiler.spaces`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx

from tvm_conv3dt.compiler.blocks import block_start
from tvm_conv3dt.compiler.elements import STORED_BFLOAT16, narrow
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.operands import Operands
from tvm_conv3dt.compiler.pair_layout import PairLayout
from tvm_conv3dt.compiler.pair_products import add_pair, pair
from tvm_conv3dt.compiler.place import Place
from tvm_conv3dt.compiler.taps import inside, tap_of

__all__ = ["define_channels", "place_of"]


def define_channels(layout: Layout, operands: Operands, name: str) -> Any:
    """Return the results by phases: ``[n, qd, rd, qh, rh, qw, rw, cb, v]``, made by the block `name`.

    The other blocks are ``turned`` and ``padded``, where rows of the input are copied, and ``accumulator``.
    """
    workload, axes = layout.workload, layout.axes
    batch = workload.batch
    zero = tirx.const(0, workload.sum_dtype)
    packed = operands.packed

    pairs = layout.pairs if isinstance(layout, PairLayout) else 0
    source = _halves(layout, operands) if isinstance(layout, PairLayout) else operands.rows(layout)
    padded = source
    if layout.padded:
        before, after = layout.halo
        width = workload.input_spatial[2]

        def element(n: Any, d: Any, h: Any, w: Any, c: Any) -> Any:
            within = [w >= before] * (before > 0) + [w < width + before] * (after > 0)
            value = source(n, d, h, w - before, c)
            absent = tirx.const(0, STORED_BFLOAT16) if pairs else zero
            return tirx.if_then_else(tirx.all(*within), value, absent) if within else value

        shape = (batch, *layout.row_sizes, before + width + after, layout.copied_channels)
        padded = te.compute(shape, element, "padded")

    taps = [te.reduce_axis((0, t), f"j{name}") for t, name in zip(layout.taps, "dhw", strict=True)]
    ci = te.reduce_axis((0, pairs or workload.in_channels), "ci")

    def products(*index: Any) -> Any:
        if not workload.reached:
            return te.sum(zero, axis=[*taps, ci])
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
        before = (margin[0] for margin in (*layout.margins, layout.halo))
        positions = [position + more for position, more in zip(positions, before, strict=True)]
        filter_ = (cb, *tap_numbers, ci, v)
        if pairs:
            left = pair(*(padded(n, *positions, ci * 2 + e) for e in range(2)))
            product = add_pair(left, pair(*(packed[(*filter_, e)] for e in range(2))))
        else:
            product = padded(n, *positions, ci) * packed[filter_]
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

    def result(*index: Any) -> Any:
        channel = block_start(index[-2], layout.lanes, layout.channels) + index[-1]
        return operands.result(accumulator(*index), layout.channel(channel)[-1])

    return te.compute(accumulator.shape, result, name, varargs_names=names)


def _halves(layout: PairLayout, operands: Operands) -> Callable[..., Any]:
    """Return what gives an element of the input as a half of a pair."""
    channels, zero = layout.workload.in_channels, tirx.const(0, STORED_BFLOAT16)

    def element(n: Any, d: Any, h: Any, w: Any, c: Any) -> Any:
        value = operands.stored(n, d, h, w, c)
        if layout.workload.dtype != "bfloat16":
            value = narrow(value, STORED_BFLOAT16, cast=True)
        if layout.packed_channels == channels:
            return value
        return tirx.if_then_else(c < channels, value, zero)

    return element


def place_of(layout: Layout, index: Any) -> Place:
    """Return where a result by phases belongs."""
    n, qd, rd, qh, rh, qw, rw, cb, v = index
    channel = block_start(cb, layout.lanes, layout.channels) + v
    *inner, out_channel = layout.channel(channel)
    phases = [
        each if folded else r
        for folded, r, each in zip(layout.folded, (rd, rh, rw), inner, strict=True)
    ]
    width = layout.axes[2]
    w = qw * width.stride + phases[2]
    exists = [w < width.output] * (not width.exact)
    if layout.channels < layout.lanes:
        exists.append(channel < layout.channels)
    return Place(n, (qd, phases[0]), (qh, phases[1]), w, out_channel, exists)
