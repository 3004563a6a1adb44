"""What is computed by products of blocks: see `tvm_conv3dt.compiler.mmla_layout`.

With the positions of a row as pairs ``(p, i)``, ``qw(p, i) = p + i * partner``, with channels in blocks ``(cb, half, e)``, and input
channels as ``(kb, k)``::

    padded[n, d, h, w, kb, i, k] = x[n, d, h, w + i * partner, ci], or zero outside of it

    accumulator[n, qd, rd, qh, rh, p, rw, cb, half, i, e] =
        sum over jd, jh, jw, kb, k of
            padded[n, input(qd, rd, jd), input(qh, rh, jh), input(p, rw, jw), kb, i, k]
            * packed[cb, tap(rd, jd), tap(rh, jh), tap(rw, jw), kb, half, e, k]

    sums[..., cb, i, half, e] = accumulator[..., cb, half, i, e]

    y[n, s*qd + rd, s*qh + rh, s*qw(p, i) + rw, c] = activation(sums[...] + bias[c])

A phase that has fewer taps than others takes fewer turns of the loops over taps: `tvm_conv3dt.compiler.tap_loops` sees to
that. Taps that lead out of the input read zeros.
"""

from __future__ import annotations

from typing import Any

from tvm import te, tirx

from tvm_conv3dt.compiler.blocks import block_start
from tvm_conv3dt.compiler.elements import widen
from tvm_conv3dt.compiler.mmla import BLOCK, DEPTH
from tvm_conv3dt.compiler.mmla_layout import MmlaLayout
from tvm_conv3dt.compiler.operands import Operands
from tvm_conv3dt.compiler.place import Place
from tvm_conv3dt.compiler.taps import places

__all__ = ["define_mmla", "place_of"]

_OUTER = ["n", "qd", "rd", "qh", "rh", "p", "rw", "cb"]


def define_mmla(layout: MmlaLayout, operands: Operands, name: str) -> Any:
    """Return the results by phases: ``[n, qd, rd, qh, rh, p, rw, cb, i, half, e]``, made by the block `name`."""
    axes, phases = layout.axes, layout.phases
    padded = _padded(layout, operands)
    taps = [te.reduce_axis((0, t), f"j{name}") for t, name in zip(layout.taps, "dhw", strict=True)]
    kb, k = te.reduce_axis((0, layout.quads), "kb"), te.reduce_axis((0, DEPTH), "k")

    def products(*index: Any) -> Any:
        n, qd, rd, qh, rh, p, rw, cb, half, i, e = index
        positions, numbers = places(layout, (qd, qh, p), (rd, rh, rw), taps)
        left = padded(n, *positions, kb, i, k)
        right = operands.packed[(cb, *numbers, kb, half, e, k)]
        product = widen(left, layout.packed_dtype) * widen(right, layout.packed_dtype)
        return te.sum(product, axis=[*taps, kb, k])

    outer = (
        *(layout.workload.batch, axes[0].quotients, phases[0], axes[1].quotients, phases[1]),
        *(layout.columns, phases[2], layout.blocks),
    )
    domain = (*outer, BLOCK, BLOCK, BLOCK)
    accumulator = te.compute(
        domain, products, "accumulator", varargs_names=[*_OUTER, "half", "i", "e"]
    )

    def unpacked(*index: Any) -> Any:
        *at, i, half, e = index
        return accumulator(*at, half, i, e)

    names = [*_OUTER, "i", "half", "e"]
    sums = te.compute(domain, unpacked, "sums", varargs_names=names)

    def result(*index: Any) -> Any:
        return operands.result(sums(*index), layout.channel(_channel(layout, index))[-1])

    return te.compute(domain, result, name, varargs_names=names)


def _padded(layout: MmlaLayout, operands: Operands) -> Any:
    """Return rows of the input, woven and with zeros around them."""
    workload = layout.workload
    depth, height, width = workload.input_spatial
    (planes_before, planes_after), (rows_before, rows_after) = layout.margins
    before, after = layout.halo
    zero = tirx.const(0, layout.packed_dtype)

    def element(n: Any, d: Any, h: Any, w: Any, kb: Any, i: Any, k: Any) -> Any:
        column, channel = w + i * layout.partner, kb * DEPTH + k
        exists = [d >= planes_before] * (planes_before > 0)
        exists += [d < planes_before + depth] * (planes_after > 0)
        exists += [h >= rows_before] * (rows_before > 0)
        exists += [h < rows_before + height] * (rows_after > 0)
        exists += [column >= before] * (before > 0)
        exists += [column < before + width] * (after > 0)
        exists += [channel < workload.in_channels] * (layout.packed_channels > workload.in_channels)
        value = operands.stored(n, d - planes_before, h - rows_before, column - before, channel)
        value = operands.rounded(value)
        return tirx.if_then_else(tirx.all(*exists), value, zero) if exists else value

    shape = (workload.batch, *layout.row_sizes, layout.row_length, layout.quads, BLOCK, DEPTH)
    return te.compute(shape, element, "padded", varargs_names=["n", "d", "h", "w", "kb", "i", "k"])


def _channel(layout: MmlaLayout, index: Any) -> Any:
    cb, _, half, e = index[-4:]
    return block_start(cb, layout.lanes, layout.channels) + half * BLOCK + e


def place_of(layout: MmlaLayout, index: Any) -> Place:
    """Return where a result by phases belongs."""
    n, qd, rd, qh, rh, p, rw, _, i, _, _ = index
    channel = _channel(layout, index)
    *inner, out_channel = layout.channel(channel)
    phases = [
        each if folded else r
        for folded, r, each in zip(layout.folded, (rd, rh, rw), inner, strict=True)
    ]
    width = layout.axes[2]
    w = (p + i * layout.partner) * width.stride + phases[2]
    exists = [w < width.output] * (not width.exact)
    if layout.channels < layout.lanes:
        exists.append(channel < layout.channels)
    return Place(n, (qd, phases[0]), (qh, phases[1]), w, out_channel, exists)
