"""What is computed: the operator as a TE definition, phase by phase.

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

from collections.abc import Sequence
from typing import Any

import tvm_ffi
from tvm import ir, s_tir, te, tirx

from tvm_conv3dt.compiler.activation import activation_of
from tvm_conv3dt.compiler.arguments import element_aligned, replace_arguments
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.phases import Axis

__all__ = ["VERSION", "define"]

# Part of the signature of schedules and logs: raise it with every change of the definition, of the
# packing, or of what a design space's loops mean.
VERSION = 1


def define(layout: Layout, symbol: str = "main") -> tirx.PrimFunc:
    """Return the operator as an unscheduled function.

    Parameters
    ----------
    layout : Layout
        Of a float32 NDHWC workload.
    symbol : str
        Name of the function.

    Returns
    -------
    tvm.tirx.PrimFunc
        ``symbol(x, packed, [bias,] y)`` with blocks ``padded`` (where the input needs zeros around
        it), ``accumulator`` and ``y``. `x`, `bias` and `y` are only aligned to their elements, so
        that any array of the caller's serves; `packed` is aligned to 64 bytes.
    """
    workload, axes, halo = layout.workload, layout.axes, layout.halo
    dtype = workload.dtype
    batch, in_channels = workload.batch, workload.in_channels
    zero = tirx.const(0, dtype)

    x = te.placeholder((batch, *workload.input_spatial, in_channels), dtype, "x")
    packed = te.placeholder(layout.packed_shape, dtype, "packed")
    bias = te.placeholder((workload.out_channels,), dtype, "bias")

    padded = x
    if layout.padded:
        padded = te.compute(
            (batch, *(a.input + sum(h) for a, h in zip(axes, halo, strict=True)), in_channels),
            lambda *index: tirx.if_then_else(
                tirx.all(*_inside(index[1:4], axes, halo)), x[_unpadded(index, halo)], zero
            ),
            "padded",
            varargs_names=["n", "d", "h", "w", "c"],
        )

    taps = [te.reduce_axis((0, t), f"j{name}") for t, name in zip(layout.taps, "dhw", strict=True)]
    ci = te.reduce_axis((0, in_channels), "ci")

    def products(*index: Any) -> Any:
        n, qd, rd, qh, rh, qw, rw, cb, v = index
        positions, tap_numbers, present = [], [], []
        for axis, folded, (before, _), q, r, j in zip(
            axes, layout.folded, halo, (qd, qh, qw), (rd, rh, rw), taps, strict=True
        ):
            if folded:
                positions.append(q + j + axis.offsets[0] + before)
                tap_numbers.append(j)
                continue
            first_tap, first_input = _first(axis, r)
            positions.append(q + first_input - j * axis.input_step + before)
            tap_numbers.append(first_tap + j * axis.tap_step)
            if not axis.uniform:
                present.append(_less(tap_numbers[-1], axis.kernel))
                if axis.gcd > 1:
                    present.append(tirx.floormod(r + axis.pad, axis.gcd) == 0)
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
            value = value + bias[layout.channel(index[-2] * layout.lanes + index[-1])[-1]]
        return activation(value)

    y = te.compute(accumulator.shape, result, "y", varargs_names=names)
    arguments = [x, packed, bias, y] if workload.bias else [x, packed, y]
    function = _store_by_phases(te.create_prim_func(arguments), layout)
    return element_aligned(function, ["x", "bias"]).with_attr("global_symbol", symbol)


def _less(left: Any, right: int) -> Any:
    """Return ``left < right``, by the sign of the difference.

    TVM 0.27 solves a plain comparison for a phase, takes the padded buffer's extent to depend on the result,
    and then uses the phase before its loop. LLVM makes a comparison of it again.
    """
    return tirx.shift_right(left - right, tirx.const(31, "int32")) != 0


def _first(axis: Axis, r: Any) -> tuple[Any, Any]:
    """Return the first tap of phase `r`, and the input it reads less q, as expressions.

    Without dilation they are ``(r + pad) % stride`` and ``(r + pad) // stride``, and as `r` is less than
    the stride one comparison does. It must: where the phases of several axes are fused into one loop,
    TVM 0.27 simplifies a sum of such remainders wrongly (it moves one offset into all of them).
    """
    if axis.dilation != 1:
        return axis.first_tap(r), axis.first_input(r)
    whole, rest = divmod(axis.pad, axis.stride)
    if rest == 0:
        return r, whole
    wraps = r >= axis.stride - rest
    return (
        tirx.Select(wraps, r - (axis.stride - rest), r + rest),
        tirx.Select(wraps, tirx.const(whole + 1, "int32"), tirx.const(whole, "int32")),
    )


def _inside(position: tuple[Any, ...], axes: Any, halo: Sequence[tuple[int, int]]) -> list[Any]:
    """Conditions under which a position of the padded input lies inside the input."""
    conditions = []
    for p, axis, (before, after) in zip(position, axes, halo, strict=True):
        if before:
            conditions.append(p >= before)
        if after:
            conditions.append(p < axis.input + before)
    return conditions


def _unpadded(index: tuple[Any, ...], halo: Sequence[tuple[int, int]]) -> tuple[Any, ...]:
    """Return the position in the input of an index of the padded input."""
    n, *spatial, c = index
    return (n, *(p - before for p, (before, _) in zip(spatial, halo, strict=True)), c)


def _store_by_phases(function: tirx.PrimFunc, layout: Layout) -> tirx.PrimFunc:
    """Let block ``y`` store to the output tensor itself.

    TE can only define a tensor over its own index space, here that of the phases. The output is that
    tensor seen as NDHWC, less what lies past its end: where a stride does not divide the size, or the
    last block of channels is not full, the store is conditional.
    """
    workload, axes = layout.workload, layout.axes
    by_phase = function.params[-1]
    shape = (workload.batch, *workload.output_spatial, workload.out_channels)
    y = tirx.decl_buffer(shape, workload.dtype, "y", data_alignment=workload.itemsize)

    def position(index: Any) -> list[Any]:
        n, qd, rd, qh, rh, qw, rw, cb, v = index
        *folded_phases, out_channel = layout.channel(cb * layout.lanes + v)
        spatial = [
            q * axis.stride + (inner if folded else r)
            for axis, folded, q, r, inner in zip(
                axes, layout.folded, (qd, qh, qw), (rd, rh, rw), folded_phases, strict=True
            )
        ]
        return [n, *spatial, out_channel]

    def store(statement: tirx.BufferStore) -> Any:
        if not statement.buffer.same_as(by_phase):
            return statement
        where = position(statement.indices)
        past_end = [p < a.output for p, a in zip(where[1:4], axes, strict=True) if not a.exact]
        if layout.channels % layout.lanes:
            cb, v = statement.indices[-2:]
            past_end.append(cb * layout.lanes + v < layout.channels)
        result = tirx.BufferStore(y, statement.value, where)
        return tirx.IfThenElse(tirx.all(*past_end), result, None) if past_end else result

    def block(sblock: s_tir.SBlock) -> s_tir.SBlock:
        if sblock.name_hint != "y":
            return sblock
        where = position([v.var for v in sblock.iter_vars])
        region = tirx.BufferRegion(y, [ir.Range.from_min_extent(p, 1) for p in where])
        return s_tir.SBlock(sblock.iter_vars, sblock.reads, [region], "y", sblock.body)

    function = tvm_ffi.structural_map(function, [(tirx.BufferStore, store), (s_tir.SBlock, block)])
    return replace_arguments(function, {"y": y})
