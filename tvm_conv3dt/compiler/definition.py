"""What is computed: the operator as a TE definition, phase by phase.

With ``o = s * q + r`` on every axis (see `tvm_conv3dt.phases`)::

    accumulator[n, qd, rd, qh, rh, qw, rw, c] =
        sum over jd, jh, jw, ci of
            padded[n, input(qd, rd, jd), input(qh, rh, jh), input(qw, rw, jw), ci]
            * filters[tap(rd, jd), tap(rh, jh), tap(rw, jw), c, ci]

    y[n, s*qd + rd, s*qh + rh, s*qw + rw, c] = activation(accumulator[...] + bias[c])

Channels ``c`` stand as ``(cb, v)``, blocks of one vector each, and the filters arrive packed to match:
``packed[cb, td, th, tw, ci, v]`` (see `tvm_conv3dt.compiler.packing`). How it is computed is not said
here: that is a design space's affair (`tvm_conv3dt.compiler.spaces`).
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, s_tir, te, tirx

from tvm_conv3dt.compiler.activation import activation_of
from tvm_conv3dt.compiler.arguments import element_aligned, replace_arguments
from tvm_conv3dt.compiler.packing import packed_shape
from tvm_conv3dt.phases import Axis
from tvm_conv3dt.spec import Workload

__all__ = ["VERSION", "define"]

# Part of the signature of schedules and logs: raise it with every change of the definition, of the
# packing, or of what a design space's loops mean.
VERSION = 1


def define(workload: Workload, lanes: int, symbol: str = "main") -> tirx.PrimFunc:
    """Return the operator of `workload` as an unscheduled function.

    Parameters
    ----------
    workload : Workload
        A float32 NDHWC workload.
    lanes : int
        Channels of one block: the elements of the target's vector.
    symbol : str
        Name of the function.

    Returns
    -------
    tvm.tirx.PrimFunc
        ``symbol(x, packed, [bias,] y)`` with blocks ``padded`` (where the input needs zeros around
        it), ``accumulator`` and ``y``. `x`, `bias` and `y` are only aligned to their elements, so
        that any array of the caller's serves; `packed` is aligned to 64 bytes.
    """
    dtype = workload.dtype
    axes = workload.phase_axes
    batch, in_channels, out_channels = workload.batch, workload.in_channels, workload.out_channels
    zero = tirx.const(0, dtype)

    x = te.placeholder((batch, *workload.input_spatial, in_channels), dtype, "x")
    packed = te.placeholder(packed_shape(workload, lanes), dtype, "packed")
    bias = te.placeholder((out_channels,), dtype, "bias")

    halo = [axis.halo for axis in axes]
    padded = x
    if any(before or after for before, after in halo):
        padded = te.compute(
            (batch, *(a.input + sum(h) for a, h in zip(axes, halo, strict=True)), in_channels),
            lambda *index: tirx.if_then_else(
                tirx.all(*_inside(index[1:4], axes, halo)), x[_unpadded(index, halo)], zero
            ),
            "padded",
            varargs_names=["n", "d", "h", "w", "c"],
        )

    taps = [te.reduce_axis((0, a.taps), f"j{name}") for a, name in zip(axes, "dhw", strict=True)]
    ci = te.reduce_axis((0, in_channels), "ci")

    def products(*index: Any) -> Any:
        n, qd, rd, qh, rh, qw, rw, cb, v = index
        positions, tap_numbers, present = [], [], []
        for axis, (before, _), q, r, j in zip(
            axes, halo, (qd, qh, qw), (rd, rh, rw), taps, strict=True
        ):
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

    phase_domain = [batch]
    for axis in axes:
        phase_domain += [axis.quotients, axis.phases]
    blocks = -(-out_channels // lanes)
    accumulator = te.compute(
        (*phase_domain, blocks, lanes),
        products,
        "accumulator",
        varargs_names=["n", "qd", "rd", "qh", "rh", "qw", "rw", "cb", "v"],
    )
    activation = activation_of(workload)

    def result(*index: Any) -> Any:
        value = accumulator(*index)
        if workload.bias:
            value = value + bias[index[-2] * lanes + index[-1]]
        return activation(value)

    y = te.compute(
        accumulator.shape, result, "y", varargs_names=[str(v.var.name) for v in accumulator.op.axis]
    )
    arguments = [x, packed, bias, y] if workload.bias else [x, packed, y]
    function = _store_by_phases(te.create_prim_func(arguments), workload, lanes)
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


def _inside(position: tuple[Any, ...], axes: Any, halo: list[tuple[int, int]]) -> list[Any]:
    """Conditions under which a position of the padded input lies inside the input."""
    conditions = []
    for p, axis, (before, after) in zip(position, axes, halo, strict=True):
        if before:
            conditions.append(p >= before)
        if after:
            conditions.append(p < axis.input + before)
    return conditions


def _unpadded(index: tuple[Any, ...], halo: list[tuple[int, int]]) -> tuple[Any, ...]:
    """Return the position in the input of an index of the padded input."""
    n, *spatial, c = index
    return (n, *(p - before for p, (before, _) in zip(spatial, halo, strict=True)), c)


def _store_by_phases(function: tirx.PrimFunc, workload: Workload, lanes: int) -> tirx.PrimFunc:
    """Let block ``y`` store to the output tensor itself.

    TE can only define a tensor over its own index space, here that of the phases. The output is that
    tensor seen as NDHWC, less what lies past its end: where a stride does not divide the size, or the
    last block of channels is not full, the store is conditional.
    """
    axes = workload.phase_axes
    by_phase = function.params[-1]
    shape = (workload.batch, *workload.output_spatial, workload.out_channels)
    y = tirx.decl_buffer(shape, workload.dtype, "y", data_alignment=workload.itemsize)

    def position(index: Any) -> list[Any]:
        n, qd, rd, qh, rh, qw, rw, cb, v = index
        spatial = [
            q * a.stride + r for a, q, r in zip(axes, (qd, qh, qw), (rd, rh, rw), strict=True)
        ]
        return [n, *spatial, cb * lanes + v]

    def store(statement: tirx.BufferStore) -> Any:
        if not statement.buffer.same_as(by_phase):
            return statement
        where = position(statement.indices)
        past_end = [p < a.output for p, a in zip(where[1:4], axes, strict=True) if not a.exact]
        if workload.out_channels % lanes:
            past_end.append(where[4] < workload.out_channels)
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
