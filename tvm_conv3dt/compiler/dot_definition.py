"""What is computed where input channels are in the lanes: see `tvm_conv3dt.compiler.dot_layout`.

With ``o = s * q + r`` on every axis, and an output of a row as ``(f, e)``, vector and lane::

    accumulator[n, qd, rd, qh, rh, f, e, v] =
        sum over jd, jh, cb, jw of
            x[n, input(qd, rd, jd), input(qh, rh, jh), input(qw, rw, jw), first(cb) + v]
            * packed[tap(rd, jd), tap(rh, jh), tap(rw, jw), c, cb, v]

    sums[n, qd, rd, qh, rh, f, e] = sum over v of accumulator[n, qd, rd, qh, rh, f, e, v]

where lane ``e`` of vector ``f`` is the output ``(qw, rw, c)``: they follow each other as they do in the row.

With pairs each product is the sum of two, of channels ``first(cb) + 2 * v`` and the next: see
`tvm_conv3dt.compiler.pair_products`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx

from tvm_conv3dt.compiler.blocks import block_start
from tvm_conv3dt.compiler.dot_layout import DOT_HALVES, DOT_PAIRS, DotLayout
from tvm_conv3dt.compiler.operands import Operands
from tvm_conv3dt.compiler.pair_products import add_pair, lower, pair, upper
from tvm_conv3dt.compiler.place import Place
from tvm_conv3dt.compiler.taps import inside, less, tap_of

__all__ = ["define_dot", "place_of"]


def define_dot(layout: DotLayout, operands: Operands, name: str) -> Any:
    """Return the results by phases: ``[n, qd, rd, qh, rh, f, e]``, made by the block `name`.

    The other blocks are ``turned``, where channels come first, ``read``, ``accumulator`` and ``sums``.
    """
    workload, axes, lanes = layout.workload, layout.axes, layout.lanes
    zero = tirx.const(0, workload.sum_dtype)
    width = axes[2]
    source = _pairs_of(operands) if layout.pairs else operands.rows(layout)

    absent = tirx.const(0, "int32") if layout.pairs else zero

    # The input with zeros around its rows: never stored, every use of it becomes a condition.
    before = max(0, -width.reads[0])
    after = max(0, width.reads[1] + layout.row_vectors * layout.positions - width.quotients)
    extent = before + max(width.input, after + 1)
    at_start, at_end = layout.leaves[2]

    def element(n: Any, d: Any, h: Any, w: Any, c: Any) -> Any:
        within = [w >= before] * at_start + [w < width.input + before] * at_end
        value = source(n, d, h, w - before, c)
        return tirx.if_then_else(tirx.all(*within), value, absent) if within else value

    shape = (workload.batch, *layout.row_sizes, extent, workload.in_channels - layout.pairs)
    read = te.compute(shape, element, "read")

    margins = layout.margins
    jd, jh, jw = (
        te.reduce_axis((0, axis.taps), f"j{name}") for name, axis in zip("dhw", axes, strict=True)
    )
    cb = te.reduce_axis((0, layout.in_blocks), "cb")
    halves = [te.reduce_axis((0, 2), "half")] * (layout.formulation == DOT_HALVES)

    def products(*index: Any) -> Any:
        n, qd, rd, qh, rh, f, e, v = index
        qw, rw, c = _output(layout, f, e)
        taps = [
            tap_of(*each)
            for each in zip(axes, (qd, qh, qw), (rd, rh, rw), (jd, jh, jw), strict=True)
        ]
        present = [condition for tap in taps for condition in tap.present]
        for axis, leaves, tap in zip(axes[:2], layout.leaves, taps, strict=False):
            present += inside(axis, tap.input, leaves)
        if layout.rows != axes[1].quotients:
            present.append(less(qh, axes[1].quotients))
        d, h, w = (tap.input for tap in taps)
        start = block_start(cb, layout.block_channels, workload.in_channels)
        channel = start + (v * 2 if layout.pairs else v)
        product = _product(
            layout,
            operands.packed,
            read[n, d + margins[0][0], h + margins[1][0], w + before, channel],
            (*(tap.number for tap in taps), c, cb, *halves, v),
        )
        if present:
            product = tirx.if_then_else(tirx.all(*present), product, zero)
        return te.sum(product, axis=[jd, jh, cb, *halves, jw])

    depth_axis, height_axis, _ = axes
    domain = (
        *(workload.batch, depth_axis.quotients, depth_axis.phases),
        *(layout.rows, height_axis.phases, layout.row_vectors, layout.outputs),
    )
    names = ["n", "qd", "rd", "qh", "rh", "f", "e"]
    accumulator = te.compute((*domain, lanes), products, "accumulator", varargs_names=[*names, "v"])
    lane = te.reduce_axis((0, lanes), "v")

    def added(*index: Any) -> Any:
        return te.sum(accumulator[(*index, lane)], axis=[lane])

    sums = te.compute(domain, added, "sums", varargs_names=names)

    def result(*index: Any) -> Any:
        return operands.result(sums(*index), index[-1] % workload.out_channels)

    return te.compute(domain, result, name, varargs_names=names)


def _pairs_of(operands: Operands) -> Callable[..., Any]:
    """Return what gives a pair of the input's elements, by the index of the first, with channels last."""

    def element(n: Any, d: Any, h: Any, w: Any, c: Any) -> Any:
        return pair(operands.stored(n, d, h, w, c), operands.stored(n, d, h, w, c + 1))

    return element


def _product(layout: DotLayout, packed: Any, value: Any, place: tuple[Any, ...]) -> Any:
    """Return what a lane adds of an input's block, and of the place of a filter's block."""
    if layout.formulation == DOT_PAIRS:
        return add_pair(value, pair(packed[(*place, 0)], packed[(*place, 1)]))
    if layout.formulation == DOT_HALVES:
        half = place[-2]
        value = tirx.if_then_else(half == 0, lower(value), upper(value))
    return value * packed[place]


def place_of(layout: DotLayout, index: Any) -> Place:
    """Return where a result by phases belongs."""
    n, qd, rd, qh, rh, f, e = index
    width, channels = layout.axes[2], layout.workload.out_channels
    # So written, lanes that follow each other are seen to do so in memory.
    w = f * (layout.positions * width.stride) + e // channels
    exists = [] if layout.exact else [w < width.output]
    return Place(n, (qd, rd), (qh, rh), w, e % channels, exists)


def _output(layout: DotLayout, f: Any, e: Any) -> tuple[Any, Any, Any]:
    """Return position and phase of the width, and output channel, of lane `e` of vector `f`."""
    channels = layout.workload.out_channels
    position, rest = e // layout.per_position, e % layout.per_position
    return f * layout.positions + position, rest // channels, rest % channels
