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
``packed[cb, td, th, tw, ci, v, 2]`` (see `tvm_conv3dt.compiler.pair_layout`). Where lanes share channels, lane ``v`` of the
accumulator has channel ``v // parts`` and input channels ``ci * parts + v % parts``, and `y` adds up those of a channel (see
`tvm_conv3dt.compiler.part_layout`). Where float16 is added ``accumulator`` is a
sum of blocks ``partial`` (see `tvm_conv3dt.compiler.half_layout`). How it is computed is not said here: that is a design
space's affair (`tvm_conv3dt.compiler.spaces`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tvm import te, tirx

from tvm_conv3dt.compiler.blocks import block_start
from tvm_conv3dt.compiler.elements import widen
from tvm_conv3dt.compiler.half_layout import HalfLayout
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.operands import Operands
from tvm_conv3dt.compiler.pair_layout import PairLayout
from tvm_conv3dt.compiler.pair_products import add_pair, pair
from tvm_conv3dt.compiler.part_layout import PartLayout
from tvm_conv3dt.compiler.place import Place
from tvm_conv3dt.compiler.taps import Tap, inside, tap_of

__all__ = ["define_channels", "place_of"]

_NAMES = ["n", "qd", "rd", "qh", "rh", "qw", "rw", "cb", "v"]


def define_channels(layout: Layout, operands: Operands, name: str) -> Any:
    """Return the results by phases: ``[n, qd, rd, qh, rh, qw, rw, cb, v]``, made by the block `name`.

    The other blocks are ``turned`` and ``padded``, where rows of the input are copied, ``partial``, where sums are made in
    blocks of float16, and ``accumulator``.
    """
    workload, axes = layout.workload, layout.axes
    packed, padded = operands.packed, _rows(layout, operands)
    pairs = isinstance(layout, PairLayout)
    parts = layout.parts if isinstance(layout, PartLayout) else 1
    zero = tirx.const(0, "float16" if isinstance(layout, HalfLayout) else workload.sum_dtype)

    def read(index: Any, taps: Sequence[Any]) -> tuple[list[Any], list[Any], list[list[Any]]]:
        """Return which position and which of the kernel's taps a turn reads, for each axis, and under which conditions.

        Those are of the phase, for each axis, and then of the input, for each axis.
        """
        _, qd, rd, qh, rh, qw, rw, _, _ = index
        positions, tap_numbers, present = [], [], []
        for axis, folded, q, r, j in zip(
            axes, layout.folded, (qd, qh, qw), (rd, rh, rw), taps, strict=True
        ):
            tap = Tap(q + j + axis.offsets[0], j, []) if folded else tap_of(axis, q, r, j)
            positions.append(tap.input)
            tap_numbers.append(tap.number)
            present.append(tap.present)
        present += [inside(*each) for each in zip(axes, positions, layout.leaves, strict=True)]
        before = (margin[0] for margin in (*layout.margins, layout.halo))
        positions = [position + more for position, more in zip(positions, before, strict=True)]
        return positions, tap_numbers, present

    def product(index: Any, taps: Sequence[Any], ci: Any) -> Any:
        """Return the product of a turn, zero where there is none."""
        positions, tap_numbers, present = read(index, taps)
        n, cb, v = index[0], index[-2], index[-1]
        filter_ = (cb, *tap_numbers, ci, v)
        if pairs:
            left = pair(*(padded(n, *positions, ci * 2 + e) for e in range(2)))
            found = add_pair(left, pair(*(packed[(*filter_, e)] for e in range(2))))
        else:
            channel = ci * parts + v % parts if parts > 1 else ci
            found = padded(n, *positions, channel) * packed[filter_]
        return _where(present, found, zero)

    domain = [workload.batch]
    for axis, phases in zip(axes, layout.phases, strict=True):
        domain += [axis.quotients, phases]
    domain += [layout.blocks, layout.lanes]
    if isinstance(layout, HalfLayout):
        accumulator = _sum_in_blocks(layout, domain, product, lambda *turn: read(*turn)[-1])
    else:
        taps = [te.reduce_axis((0, t), f"j{a}") for t, a in zip(layout.taps, "dhw", strict=True)]
        ci = te.reduce_axis((0, layout.sum_channels), "ci")

        def total(*index: Any) -> Any:
            each = product(index, taps, ci) if workload.reached else zero
            return te.sum(each, axis=[*taps, ci])

        accumulator = te.compute(domain, total, "accumulator", varargs_names=_NAMES)

    def total_of(index: Any) -> Any:
        """Return the sum of an output channel, of all lanes that it has."""
        *where, v = index
        lanes = [accumulator(*where, v * parts + part if parts > 1 else v) for part in range(parts)]
        while len(lanes) > 1:
            lanes = [a + b for a, b in zip(lanes[::2], lanes[1::2], strict=True)]
        return lanes[0]

    def result(*index: Any) -> Any:
        channel = block_start(index[-2], layout.lanes, layout.channels) + index[-1]
        total = widen(total_of(index), accumulator.dtype)
        return operands.result(total, layout.channel(channel)[-1])

    shape = (*domain[:-1], layout.stored_lanes)
    return te.compute(shape, result, name, varargs_names=_NAMES)


def _where(conditions: Iterable[list[Any]], value: Any, zero: Any) -> Any:
    """Return a value where all conditions are met, and zero elsewhere."""
    each = [condition for some in conditions for condition in some]
    return tirx.if_then_else(tirx.all(*each), value, zero) if each else value


def _sum_in_blocks(
    layout: HalfLayout,
    domain: list[Any],
    product: Callable[..., Any],
    present: Callable[..., list[list[Any]]],
) -> Any:
    """Return sums of products by phases: ``accumulator``, in float32, of blocks of float16, ``partial``, if there are several."""
    kinds = [*zip(layout.taps, layout.joined, "dhw", strict=True)]
    inner = [te.reduce_axis((0, t), f"j{a}") for t, joined, a in kinds if joined]
    outer = [te.reduce_axis((0, t), f"b{a}") for t, joined, a in kinds if not joined]
    chunks, ci = te.reduce_axis((0, layout.chunks), "bi"), te.reduce_axis((0, layout.chunk), "ci")

    def taps(of_block: Sequence[Any]) -> list[Any]:
        own, others = iter(inner), iter(of_block)
        return [next(own if joined else others) for joined in layout.joined]

    several = layout.sum_blocks > 1

    def of_block(*index: Any) -> Any:
        index, block = index[: len(domain)], index[len(domain) :]
        channel = block[-1] * layout.chunk + ci if several else ci
        return te.sum(product(index, taps(block[:-1]), channel), axis=[*inner, ci])

    if not several:
        return te.compute(domain, of_block, "accumulator", varargs_names=_NAMES)
    extents = [t for t, joined, _ in kinds if not joined] + [layout.chunks]
    names = [*_NAMES, *(f"b{a}" for _, joined, a in kinds if not joined), "bi"]
    partial = te.compute((*domain, *extents), of_block, "partial", varargs_names=names)

    def total(*index: Any) -> Any:
        # Those of the taps within a block are met by some of it or not.
        joined = layout.joined * 2
        conditions = [c for c, j in zip(present(index, taps(outer)), joined, strict=True) if not j]
        block = widen(partial(*index, *outer, chunks), "float16")
        each = _where(conditions, block, tirx.const(0, "float32"))
        return te.sum(each, axis=[*outer, chunks])

    return te.compute(domain, total, "accumulator", varargs_names=_NAMES)


def _rows(layout: Layout, operands: Operands) -> Callable[..., Any]:
    """Return what gives an element of the input's rows as it is multiplied: of copies, ``padded``, where there are some."""
    if isinstance(layout, PairLayout | HalfLayout):
        source = _halves(layout, operands)
    else:
        source = operands.rows(layout)
    if layout.packed_channels > layout.workload.in_channels:
        source = _filled(layout, source)
    if not layout.padded:
        return source
    before, after = layout.halo
    width = layout.workload.input_spatial[2]
    absent = tirx.const(0, layout.packed_dtype)

    def element(n: Any, d: Any, h: Any, w: Any, c: Any) -> Any:
        within = [w >= before] * (before > 0) + [w < width + before] * (after > 0)
        return _where([within], source(n, d, h, w - before, c), absent)

    channels = layout.copied_channels
    shape = (layout.workload.batch, *layout.row_sizes, before + width + after, channels)
    padded: Callable[..., Any] = te.compute(shape, element, "padded")
    return padded


def _filled(layout: Layout, source: Callable[..., Any]) -> Callable[..., Any]:
    """Return what gives an element of the input, and zero beyond its channels."""
    channels, zero = layout.workload.in_channels, tirx.const(0, layout.packed_dtype)
    return lambda *index: tirx.if_then_else(index[-1] < channels, source(*index), zero)


def _halves(layout: PairLayout | HalfLayout, operands: Operands) -> Callable[..., Any]:
    """Return what gives an element of the input as a number of 16 bits, as packed filters have them."""
    return lambda *index: operands.rounded(operands.stored(*index))


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
    if layout.channels < layout.stored_lanes:
        exists.append(channel < layout.channels)
    return Place(n, (qd, phases[0]), (qh, phases[1]), w, out_channel, exists)
