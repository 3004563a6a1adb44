"""What is computed on a GPU: see `tvm_conv3dt.compiler.gemm_layout`.

With the positions ``(n, qd, qh, qw)`` of a phase ``r`` counted by one number ``m``, and input channels as shares
``(part, ci)``::

    gathered[part, rd, rh, rw, jd, jh, jw, ci, m] = x at tap (jd, jh, jw) of position m, or zero outside of it

    filters[rd, rh, rw, cb, jd, jh, jw, ci, v] = packed[cb, tap(rd, jd), tap(rh, jh), tap(rw, jw), ci, v]

    accumulator[part, rd, rh, rw, cb, m, v] =
        sum over jd, jh, jw, ci of
            gathered[part, rd, rh, rw, jd, jh, jw, ci, m] * filters[rd, rh, rw, cb, jd, jh, jw, (part, ci), v]

    y[n, s*qd + rd, s*qh + rh, s*qw + rw, c] = activation(sum over part of accumulator[part, ...] + bias[c])

``gathered`` and ``filters`` exist a tile at a time, in shared memory. A phase that has fewer taps than others takes fewer turns
of the loops over taps: `tvm_conv3dt.compiler.tap_loops` sees to that. Tensor cores take ``gathered[..., m, ci]``.
"""

from __future__ import annotations

from typing import Any

from tvm import te, tirx

from tvm_conv3dt.compiler.blocks import block_start
from tvm_conv3dt.compiler.gemm_layout import GemmLayout
from tvm_conv3dt.compiler.operands import Operands
from tvm_conv3dt.compiler.place import Place
from tvm_conv3dt.compiler.taps import folded_tap, tap_of
from tvm_conv3dt.phases import Axis

__all__ = ["define_gemm", "place_of"]


def define_gemm(layout: GemmLayout, operands: Operands, name: str) -> Any:
    """Return the results by phases: ``[rd, rh, rw, cb, m, v]``, made by the block `name`."""
    workload = layout.workload
    gathered, filters = _gathered(layout, operands), _filters(layout, operands)
    jd, jh, jw = (te.reduce_axis((0, t), f"j{n}") for t, n in zip(layout.taps, "dhw", strict=True))
    ci = te.reduce_axis((0, layout.part_channels), "ci")

    def products(part: Any, rd: Any, rh: Any, rw: Any, cb: Any, m: Any, v: Any) -> Any:
        last = (m, ci) if layout.matrix_units else (ci, m)
        left = gathered(part, rd, rh, rw, jd, jh, jw, *last)
        right = filters(rd, rh, rw, cb, jd, jh, jw, part * layout.part_channels + ci, v)
        if layout.matrix_units:
            left, right = left.astype(workload.sum_dtype), right.astype(workload.sum_dtype)
        product = left * right
        present = _present(layout, cb, v, (jd, jh, jw))
        if present:
            # Not a product with a zero filter, which would make NaN of an infinite input.
            zero = tirx.const(0, workload.sum_dtype)
            product = tirx.if_then_else(tirx.all(*present), product, zero)
        return te.sum(product, axis=[jd, jh, jw, ci])

    names = ["rd", "rh", "rw", "cb", "m", "v"]
    domain = (*layout.phases, layout.blocks, layout.padded_volume, layout.lanes)
    accumulator = te.compute(
        (layout.parts, *domain), products, "accumulator", varargs_names=["part", *names]
    )

    def result(*index: Any) -> Any:
        channel = block_start(index[3], layout.lanes, layout.channels) + index[-1]
        total = accumulator(0, *index)
        for part in range(1, layout.parts):
            total = total + accumulator(part, *index)
        return operands.result(total, layout.channel(channel)[-1])

    return te.compute(domain, result, name, varargs_names=names)


def _gathered(layout: GemmLayout, operands: Operands) -> Any:
    """Return the input as each tap of each position takes it."""
    workload, axes = layout.workload, layout.axes
    zero = tirx.const(0, layout.packed_dtype)

    def element(*index: Any) -> Any:
        part, phases, turns, (ci, m) = index[0], index[1:4], index[4:7], index[7:]
        if layout.matrix_units:
            m, ci = ci, m
        n, *quotients = _positions(layout, m)
        channel = part * layout.part_channels + ci
        exists = [m < layout.volume] * (layout.padded_volume > layout.volume)
        exists += [channel < workload.in_channels] * (layout.packed_shape[4] > workload.in_channels)
        where: list[Any] = []
        for axis, folded, q, r, j in zip(
            axes, layout.folded, quotients, phases, turns, strict=True
        ):
            position = q + j + axis.offsets[0] if folded else tap_of(axis, q, r, j).input
            before, after = axis.folded_halo if folded else axis.halo
            exists += [position >= 0] * (before > 0) + [position < axis.input] * (after > 0)
            where.append(position)
        d, h, w = where
        value = operands.stored(n, d, h, w, channel)
        if not layout.matrix_units:
            value = operands.widened(value)
        if not workload.reached:
            return zero
        return tirx.if_then_else(tirx.all(*exists), value, zero) if exists else value

    inner = (layout.part_channels, layout.padded_volume)
    return te.compute(
        (
            *(layout.parts, *layout.phases, *layout.taps),
            *(inner[::-1] if layout.matrix_units else inner),
        ),
        element,
        "gathered",
        varargs_names=["part", "rd", "rh", "rw", "jd", "jh", "jw", "i", "k"],
    )


def _filters(layout: GemmLayout, operands: Operands) -> Any:
    """Return the packed filters by the number that a tap has in its phase."""

    def element(*index: Any) -> Any:
        phases, cb, turns, (channel, v) = index[:3], index[3], index[4:7], index[7:]
        if not layout.workload.reached:
            return tirx.const(0, layout.packed_dtype)
        # A tap that the phase does not have is never asked for; that no address leaves the filters must be seen, too.
        numbers = [
            j if folded else _at_most(tap_of(axis, 0, r, j).number, axis)
            for axis, folded, r, j in zip(layout.axes, layout.folded, phases, turns, strict=True)
        ]
        return operands.packed[(cb, *numbers, channel, v)]

    blocks, *_, depth, lanes = layout.packed_shape
    return te.compute(
        (*layout.phases, blocks, *layout.taps, depth, lanes),
        element,
        "filters",
        varargs_names=["rd", "rh", "rw", "cb", "jd", "jh", "jw", "ci", "v"],
    )


def _present(layout: GemmLayout, cb: Any, v: Any, turns: tuple[Any, ...]) -> list[Any]:
    """Return the conditions under which the folded phase of a channel has a tap."""
    if layout.dense or not layout.workload.reached:
        return []
    channel = block_start(cb, layout.lanes, layout.channels) + v
    present = []
    for axis, folded, phase, j in zip(
        layout.axes, layout.folded, layout.channel(channel)[:3], turns, strict=True
    ):
        if folded:
            _, has = folded_tap(axis, phase, j)
            present += has
    return present


def place_of(layout: GemmLayout, index: Any) -> Place:
    """Return where a result by phases belongs."""
    rd, rh, rw, cb, m, v = index
    n, qd, qh, qw = _positions(layout, m)
    channel = block_start(cb, layout.lanes, layout.channels) + v
    *inner, out_channel = layout.channel(channel)
    phases = [
        each if folded else r
        for folded, r, each in zip(layout.folded, (rd, rh, rw), inner, strict=True)
    ]
    width = layout.axes[2]
    w = qw * width.stride + phases[2]
    exists = [m < layout.volume] * (layout.padded_volume > layout.volume)
    exists += [w < width.output] * (not width.exact)
    if layout.channels < layout.lanes:
        exists.append(channel < layout.channels)
    return Place(n, (qd, phases[0]), (qh, phases[1]), w, out_channel, exists)


def _positions(layout: GemmLayout, m: Any) -> tuple[Any, Any, Any, Any]:
    """Return ``(n, qd, qh, qw)`` of the number of a position."""
    depth, height, width = layout.quotients
    rest, qw = tirx.floordiv(m, width), tirx.floormod(m, width)
    rest, qh = tirx.floordiv(rest, height), tirx.floormod(rest, height)
    n, qd = tirx.floordiv(rest, depth), tirx.floormod(rest, depth)
    return n, qd, qh, qw


def _at_most(number: Any, axis: Axis) -> Any:
    return number if axis.uniform else tirx.min(number, axis.kernel - 1)
