"""What is computed on a CPU's matrix unit: see `tvm_conv3dt.compiler.tile_layout`.

With the positions of a plane counted by ``f``, `pitch` from a row to the next, and ``m`` those of a phase, in tiles of
squares ``(mb, mi, i)``; with channels in blocks of squares ``(cb, nb, v)``, and input channels in pairs ``(kb, k, e)``::

    padded[n, d, f, ci] = x[n, d, h(f), w(f), ci], or zero outside of it

    accumulator[n, qd, rd, rh, rw, cb, mb, mi, nb, i, v] =
        sum over jd, jh, jw, kb, k, e of
            padded[n, input(qd, rd, jd), m + pitch * input(rh, jh) + input(rw, jw), ci]
            * packed[cb, tap(rd, jd), tap(rh, jh), tap(rw, jw), kb, nb, k, v, e]

    y[n, s*qd + rd, s*qh(m) + rh, s*qw(m) + rw, c] = activation(accumulator[...] + bias[c])

Where numbers are split into pieces (`tvm_conv3dt.compiler.split_layout`) copies and packed filters have them, ``padded[n, d, kb, p, f,
c]`` and ``packed[cb, td, th, tw, kb, p, nb, k, v, e]``, and there are two sums: ``accumulator`` of products of the first, and
``corrections``, which are added up as ``sums``.

A phase that has fewer taps than others takes fewer turns of the loops over taps: `tvm_conv3dt.compiler.tap_loops` sees to
that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx

from tvm_conv3dt.compiler.blocks import block_start
from tvm_conv3dt.compiler.elements import widen
from tvm_conv3dt.compiler.operands import Operands
from tvm_conv3dt.compiler.pieces import CORRECTIONS, PIECES, piece
from tvm_conv3dt.compiler.place import Place
from tvm_conv3dt.compiler.split_layout import SplitLayout
from tvm_conv3dt.compiler.taps import places
from tvm_conv3dt.compiler.tile_layout import TileLayout
from tvm_conv3dt.compiler.unit_layout import DEPTH, SQUARE

__all__ = ["define_tiles", "place_of"]


def _names(layout: TileLayout) -> list[str]:
    """Return the axes of results: positions by tiles of a plane, or of a row."""
    tiles = ["qh", "t"] if layout.by_rows else ["mb"]
    return ["n", "qd", "rd", "rh", "rw", "cb", *tiles, "mi", "nb", "i", "v"]


def _position(layout: TileLayout, index: dict[str, Any]) -> tuple[Any, Any | None]:
    """Return the number of a position of a plane, or in its row, and that row, if it has one."""
    within = index["mi"] * SQUARE + index["i"]
    if layout.by_rows:
        return index["t"] * layout.positions + within, index["qh"]
    return index["mb"] * layout.positions + within, None


def define_tiles(layout: TileLayout, operands: Operands, name: str) -> Any:
    """Return the results by phases: ``[n, qd, rd, rh, rw, cb, mb, mi, nb, i, v]``, made by the block `name`."""
    padded = _padded(layout, operands)
    split = isinstance(layout, SplitLayout)
    accumulator = _sums(layout, padded, operands, "accumulator", [(0, 0) if split else None])
    corrections = _sums(layout, padded, operands, "corrections", CORRECTIONS) if split else None
    names, sums = _names(layout), accumulator
    if corrections is not None:

        def both(*index: Any) -> Any:
            return accumulator(*index) + corrections(*index)

        sums = te.compute(accumulator.shape, both, "sums", varargs_names=names)

    def result(*index: Any) -> Any:
        channel = _channel(layout, dict(zip(names, index, strict=True)))
        return operands.result(sums(*index), layout.channel(channel)[-1])

    return te.compute(accumulator.shape, result, name, varargs_names=names)


def _sums(
    layout: TileLayout,
    padded: Any,
    operands: Operands,
    name: str,
    pieces: Sequence[tuple[int, int] | None],
) -> Any:
    """Return the sums of products, by the block `name`: those of some pairs of pieces, or None of numbers that have no pieces."""
    axes = layout.axes
    taps = [te.reduce_axis((0, t), f"j{axis}") for t, axis in zip(layout.taps, "dhw", strict=True)]
    kb = te.reduce_axis((0, layout.packed_channels // DEPTH), "kb")
    k, e = te.reduce_axis((0, DEPTH // 2), "k"), te.reduce_axis((0, 2), "e")
    names = _names(layout)

    def products(*axes_: Any) -> Any:
        index = dict(zip(names, axes_, strict=True))
        n, qd, rd, rh, rw, cb, nb, v = (
            index[each] for each in ("n", "qd", "rd", "rh", "rw", "cb", "nb", "v")
        )
        positions, numbers = places(layout, (qd, 0, 0), (rd, rh, rw), taps)
        d, h, w = positions
        flat, row = _position(layout, index)
        if row is not None:
            flat += row * layout.pitch
        flat += h * layout.pitch + w

        def product(pair: tuple[int, int] | None) -> Any:
            if pair is None:
                left = padded(n, d, flat, kb * DEPTH + k * 2 + e)
                right = operands.packed[(cb, *numbers, kb, nb, k, v, e)]
            else:
                left = padded(n, d, kb, pair[0], flat, k * 2 + e)
                right = operands.packed[(cb, *numbers, kb, pair[1], nb, k, v, e)]
            return widen(left, layout.packed_dtype) * widen(right, layout.packed_dtype)

        first, *others = (product(each) for each in pieces)
        return te.sum(sum(others, first), axis=[*taps, kb, k, e])

    domain = (
        *(layout.workload.batch, axes[0].quotients, *layout.phases, layout.blocks),
        *((axes[1].quotients, layout.row_tiles) if layout.by_rows else (layout.tiles,)),
        *(layout.squares, layout.column_squares, SQUARE, SQUARE),
    )
    return te.compute(domain, products, name, varargs_names=names)


def _padded(layout: TileLayout, operands: Operands) -> Any:
    """Return planes of the input, with zeros around and between the rows."""
    workload = layout.workload
    _, height, width = layout.axes
    (planes_before, planes_after), (rows_before, rows_after) = layout.margins
    before, _ = layout.halo
    planes, _, _ = workload.input_spatial
    turned = operands.stored_rows(layout)
    zero = tirx.const(0, layout.packed_dtype)

    def element(n: Any, d: Any, f: Any, c: Any, number: Any) -> Any:
        row, column = f, tirx.const(0, "int32")
        if layout.pitch > 1:
            row, column = tirx.floordiv(f, layout.pitch), tirx.floormod(f, layout.pitch)
        rows = rows_before + height.input + rows_after
        exists = [d >= planes_before] * (planes_before > 0)
        exists += [d < planes_before + planes] * (planes_after > 0)
        exists += [row >= rows_before] * (rows_before > 0)
        filled = layout.plane > rows * layout.pitch
        exists += [row < rows_before + height.input] * (rows_after > 0 or filled)
        exists += [column >= before] * (before > 0)
        # A pitch may be longer than a row with its zeros: what is there is nobody's to read.
        exists += [column < before + width.input] * (layout.pitch > before + width.input)

        def stored(channel: Any) -> Any:
            if layout.turned:
                return turned(n, d, row, column - before, channel)
            place = d - planes_before, row - rows_before, column - before
            return operands.stored(n, *place, channel)

        has_channel = [c < workload.in_channels] * (layout.packed_channels > workload.in_channels)
        if number is None:
            exists += has_channel
            value = operands.rounded(stored(c))
        elif has_channel:
            # A selection: under a condition each lane of the last vector would be split alone.
            whole = stored(tirx.min(c, workload.in_channels - 1))
            none = tirx.const(0, "float32")
            value = piece(tirx.Select(*has_channel, whole, none), number, cast=True)
        else:
            value = piece(stored(c), number, cast=True)
        return tirx.if_then_else(tirx.all(*exists), value, zero) if exists else value

    outer, channels = (workload.batch, layout.row_sizes[0]), layout.packed_channels
    if not isinstance(layout, SplitLayout):
        whole = (*outer, layout.plane, channels)
        return te.compute(whole, lambda n, d, f, c: element(n, d, f, c, None), "padded")

    def split(n: Any, d: Any, kb: Any, p: Any, f: Any, c: Any) -> Any:
        return element(n, d, f, kb * DEPTH + c, p)

    return te.compute((*outer, channels // DEPTH, PIECES, layout.plane, DEPTH), split, "padded")


def _channel(layout: TileLayout, index: dict[str, Any]) -> Any:
    start = block_start(index["cb"], layout.lanes, layout.channels)
    return start + index["nb"] * SQUARE + index["v"]


def place_of(layout: TileLayout, axes: Any) -> Place:
    """Return where a result by phases belongs."""
    index = dict(zip(_names(layout), axes, strict=True))
    width = layout.axes[2]
    position, row = _position(layout, index)
    exists = []
    if row is None:
        row, column = tirx.floordiv(position, layout.pitch), tirx.floormod(position, layout.pitch)
        exists += [position < layout.flat] * (layout.tiles * layout.positions > layout.flat)
        exists += [column < width.quotients] * (layout.pitch > width.quotients)
    else:
        column = position
        exists += [column < width.quotients] * (
            layout.row_tiles * layout.positions > width.quotients
        )
    channel = _channel(layout, index)
    *inner, out_channel = layout.channel(channel)
    phases = [
        each if folded else index[r]
        for folded, r, each in zip(layout.folded, ("rd", "rh", "rw"), inner, strict=True)
    ]
    w = column * width.stride + phases[2]
    exists += [w < width.output] * (not width.exact)
    if layout.channels < layout.lanes:
        exists.append(channel < layout.channels)
    return Place(index["n"], (index["qd"], phases[0]), (row, phases[1]), w, out_channel, exists)
