"""What is computed where products with all taps are summed afterwards: see `tvm_conv3dt.compiler.tap_layout`.

With shares ``(pd, ph)`` of depth and height, a task each; with squares ``s`` of 16 positions of the rows that a task reads, in
tiles ``(fb, nb)``; with input channels in pairs ``(kb, k, e)`` and filters in tiles of squares ``(rb, mi, i)``::

    square[n, pd, d, ph, s, v, ci] = x[n, (pd, d), h(ph, s), w(s) + v, ci], or zero outside of it

    turned[n, pd, d, ph, fb, kb, nb, k, v, e] = square[n, pd, d, ph, (fb, nb), v, (kb, k, e)]

    accumulator[n, pd, qd, rd, ph, rb, fb, mi, nb, i, v] =
        sum over jd, kb, k, e of packed[rb, tap(rd, jd), kb, (mi, i), (k, e)] * turned[n, pd, input(qd, rd, jd), ...]

    products[n, pd, qd, rd, ph, (rb, mi, i), (fb, nb, v)] = the same, by filters and positions

    sums[n, pd, qd, rd, ph, qh, rh, f, (rw, c), v] =
        sum over jh, jw of products[..., (tap(rh, jh), tap(rw, jw), c), position(qh, rh, jh, f, v, rw, jw)]

    y[n, s*qd + rd, s*qh + rh, s*(f, v) + rw, c] = activation(sums[...] + bias[c])

where the results of a vector, which are next to each other in the output, are woven of the vectors of ``(rw, c)``.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, s_tir, te, tirx

from tvm_conv3dt.compiler.elements import widen
from tvm_conv3dt.compiler.operands import Operands
from tvm_conv3dt.compiler.place import Place
from tvm_conv3dt.compiler.tap_layout import TapLayout
from tvm_conv3dt.compiler.taps import tap_of
from tvm_conv3dt.compiler.unit_layout import DEPTH, SQUARE

__all__ = ["define_taps", "place_of", "read_whole_products"]

_ROWS = ["n", "pd", "qd", "rd", "ph", "qh", "rh", "f"]  # of results
_MATRIX_AXES = 6  # of products, the last: blocks, squares and filters; tiles, squares and positions


def define_taps(layout: TapLayout, operands: Operands, name: str) -> Any:
    """Return the results by phases: ``[n, pd, qd, rd, ph, qh, rh, f, e]``, made by the block `name`."""
    workload = layout.workload
    products = _products(layout, operands, _turned(layout, operands))
    depth, height, width = layout.axes
    starts, channels = layout.starts, workload.out_channels
    jd, jh, jw = (te.reduce_axis((0, t), f"j{a}") for t, a in zip(layout.taps, "dhw", strict=True))

    def taps(*index: Any) -> Any:
        n, pd, qd, rd, ph, qh, rh, f, g, v = index
        rw, c = tirx.floordiv(g, channels), tirx.floormod(g, channels)
        row, column = tap_of(height, qh, rh, jh), tap_of(width, f * SQUARE + v, rw, jw)
        number = (row.number * width.kernel + column.number) * channels + c
        if layout.deep:
            tap = tap_of(depth, qd, rd, jd)
            number += tap.number * (height.kernel * width.kernel * channels)
            plane = [n, pd, tap.input - starts[0], ph]
        else:
            plane = [n, pd, qd, rd, ph]
        position = (row.input - starts[1]) * layout.pitch + column.input - starts[2]
        which = _digits(number, layout.squares)
        value = products(*plane, *which, *_digits(position, layout.column_squares))
        if column.present:
            value = tirx.if_then_else(tirx.all(*column.present), value, tirx.const(0, "float32"))
        return te.sum(value, axis=[jd, jh, jw] if layout.deep else [jh, jw])

    (depth_tasks, height_tasks), (phases_d, phases_h, _) = layout.tasks, layout.phases
    plane_shape = workload.batch, depth_tasks, layout.planes, phases_d, height_tasks
    rows = (*plane_shape, layout.task_rows, phases_h, layout.row_vectors)
    sums = te.compute(
        (*rows, layout.outputs, SQUARE), taps, "sums", varargs_names=[*_ROWS, "g", "v"]
    )

    def woven(*index: Any) -> Any:
        *row, v, g = index
        return sums(*row, g, v)

    together = te.compute(
        (*rows, SQUARE, layout.outputs), woven, "woven", varargs_names=[*_ROWS, "v", "g"]
    )

    def result(*index: Any) -> Any:
        *row, e = index
        v, g = tirx.floordiv(e, layout.outputs), tirx.floormod(e, layout.outputs)
        return operands.result(together(*row, v, g), tirx.floormod(e, channels))

    lanes = layout.outputs * SQUARE
    return te.compute((*rows, lanes), result, name, varargs_names=[*_ROWS, "e"])


def _turned(layout: TapLayout, operands: Operands) -> Any:
    """Return squares of the input, by pairs of channels."""
    workload = layout.workload
    zero = tirx.const(0, layout.packed_dtype)
    squares = layout.tiles * layout.column_squares
    first_plane, first_row, first_column = layout.starts
    planes, rows, columns = workload.input_spatial

    def element(n: Any, pd: Any, d: Any, ph: Any, s: Any, v: Any, ci: Any) -> Any:
        row, square = tirx.floordiv(s, layout.row_squares), tirx.floormod(s, layout.row_squares)
        place = (
            pd * layout.planes + d + first_plane,
            ph * layout.task_rows + row + first_row,
            square * SQUARE + v + first_column,
        )
        exists = [ci < workload.in_channels] * (layout.packed_channels > workload.in_channels)
        for position, first, size in zip(
            place, layout.starts, (planes, rows, columns), strict=True
        ):
            exists += [position >= 0] * (first < 0)
            exists.append(position < size)
        value = operands.stored(n, *place, ci)
        value = operands.rounded(value)
        return tirx.if_then_else(tirx.all(*exists), value, zero)

    outer = (workload.batch, layout.tasks[0], layout.planes + layout.spans[0], layout.tasks[1])
    names = ["n", "pd", "d", "ph"]
    square = te.compute(
        (*outer, squares, SQUARE, layout.packed_channels),
        element,
        "square",
        varargs_names=[*names, "s", "v", "ci"],
    )

    def pair(*index: Any) -> Any:
        *task, fb, kb, nb, k, v, e = index
        return square(*task, fb * layout.column_squares + nb, v, kb * DEPTH + k * 2 + e)

    channels = layout.packed_channels // DEPTH
    return te.compute(
        (*outer, layout.tiles, channels, layout.column_squares, DEPTH // 2, SQUARE, 2),
        pair,
        "turned",
        varargs_names=[*names, "fb", "kb", "nb", "k", "v", "e"],
    )


def _products(layout: TapLayout, operands: Operands, turned: Any) -> Any:
    """Return the products' sums over input channels, and taps of depth where these are not apart, by filters and positions."""
    workload, depth = layout.workload, layout.axes[0]
    jd = te.reduce_axis((0, layout.taps[0]), "jd")
    kb = te.reduce_axis((0, layout.packed_channels // DEPTH), "kb")
    k, e = te.reduce_axis((0, DEPTH // 2), "k"), te.reduce_axis((0, 2), "e")

    def product(*index: Any) -> Any:
        *outer, rb, fb, mi, nb, i, v = index
        plane, number = outer, 0
        if not layout.deep:
            n, pd, qd, rd, ph = outer
            tap = tap_of(depth, qd, rd, jd, bounded=True)
            plane, number = [n, pd, tap.input - layout.starts[0], ph], tap.number
        left = operands.packed[rb, number, kb, mi * SQUARE + i, k * 2 + e]
        right = turned(*plane, fb, kb, nb, k, v, e)
        a, b = (widen(each, layout.packed_dtype) for each in (left, right))
        return te.sum(a * b, axis=[kb, k, e] if layout.deep else [jd, kb, k, e])

    depth_tasks, height_tasks = layout.tasks
    outer = {"n": workload.batch, "pd": depth_tasks}
    if layout.deep:
        outer |= {"d": layout.planes + layout.spans[0]}
    else:
        outer |= {"qd": layout.planes, "rd": layout.phases[0]}
    outer |= {"ph": height_tasks, "rb": layout.filter_blocks}
    tile = layout.squares, layout.column_squares
    accumulator = te.compute(
        (*outer.values(), layout.tiles, *tile, SQUARE, SQUARE),
        product,
        "accumulator",
        varargs_names=[*outer, "fb", "mi", "nb", "i", "v"],
    )

    def by_position(*index: Any) -> Any:
        *others, mi, i, fb, nb, v = index
        return accumulator(*others, fb, mi, nb, i, v)

    return te.compute(
        (*outer.values(), layout.squares, SQUARE, layout.tiles, layout.column_squares, SQUARE),
        by_position,
        "products",
        varargs_names=[*outer, "mi", "i", "fb", "nb", "v"],
    )


def _digits(number: Any, squares: int) -> list[Any]:
    """Return the tile, the square in it and the place in that, of a number of a filter or a position."""
    rest, place = tirx.floordiv(number, SQUARE), tirx.floormod(number, SQUARE)
    return [tirx.floordiv(rest, squares), tirx.floormod(rest, squares), place]


def read_whole_products(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Let the sums say that they read all products of a task.

    Else a schedule would make fewer, where the filters do not fill their squares, than an instruction does.
    """

    def block(each: s_tir.SBlock) -> s_tir.SBlock:
        if each.name_hint != "sums":
            return each
        reads = [
            tirx.BufferRegion(read.source, [*read.region[:-_MATRIX_AXES], *_whole(read.source)])
            for read in each.reads
        ]
        return s_tir.SBlock(
            each.iter_vars, reads, each.writes, each.name_hint, each.body, each.init
        )

    return tvm_ffi.structural_map(function, (s_tir.SBlock, block))


def _whole(products: Any) -> list[Any]:
    return [ir.Range(0, extent) for extent in products.shape[-_MATRIX_AXES:]]


def place_of(layout: TapLayout, index: Any) -> Place:
    """Return where a result by phases belongs."""
    n, pd, qd, rd, ph, qh, rh, f, e = index
    depth, _, width = layout.axes
    channels = layout.workload.out_channels
    plane, row = pd * layout.planes + qd, ph * layout.task_rows + qh
    # So written, lanes that follow each other are seen to do so in memory.
    w = f * (SQUARE * width.stride) + tirx.floordiv(e, channels)
    exists = [plane < depth.quotients] * (layout.tasks[0] * layout.planes > depth.quotients)
    exists += [w < width.output] * (layout.row_vectors * SQUARE * width.stride > width.output)
    return Place(n, (plane, rd), (row, rh), w, tirx.floormod(e, channels), exists)
