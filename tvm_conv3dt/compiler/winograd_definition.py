"""What is computed by Winograd's filtering: see `tvm_conv3dt.compiler.winograd` and `tvm_conv3dt.compiler.winograd_layout`.

For each phase ``r`` and group ``g`` of results ``m``, by the sums of each axis one after the other::

    points[g, p, ci] = sums of the inputs of g, along width, height and depth
    products[g, p, c] = sum over ci of points[g, p, ci] * filters[p, ci, c]
    y[g, m, c]       = activation(sums of products[g, p, c], along depth, height and width, + bias[c])

Where infinite or very large inputs were added up, results are taken from ``direct``, the sum over taps that all other formulations make.
Tasks make it only where they have read such inputs, and only then take it: see `tvm_conv3dt.compiler.large_inputs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

from tvm import te, tirx

from tvm_conv3dt.compiler.blocks import block_start
from tvm_conv3dt.compiler.expressions import pick
from tvm_conv3dt.compiler.operands import Operands
from tvm_conv3dt.compiler.place import Place
from tvm_conv3dt.compiler.winograd import Filtering, Form
from tvm_conv3dt.compiler.winograd_layout import WinogradLayout

__all__ = ["define_winograd", "place_of"]

_TASK = ["n", "gd", "th", "tw", "rd", "rh", "rw"]


def define_winograd(layout: WinogradLayout, operands: Operands, name: str) -> Any:
    """Return the results by groups: ``[n, gd, th, tw, rd, rh, rw, cb, g, md, mh, mw, v]``, made by the block `name`.

    ``th`` and ``tw`` are tasks, and ``g`` the groups of one; ``m`` the results of a group. The other blocks are ``padded``, ``along_w``,
    ``along_h``, ``points``, ``accumulator``, ``products``, ``direct``, ``back_d``, ``back_h`` and ``sums``.
    """
    _, _, width = layout.filterings
    padded = _padded(layout, operands)
    found = _back(layout, _products(layout, operands, _points(layout, padded)))
    direct = _direct(layout, operands, padded)

    def total(*index: Any) -> Any:
        *task, cb, g, md, mh, mw, v = index

        def product(p: int) -> Any:
            return found(*task, cb, md, mh, p, g, v)

        made = _sum(width, Filtering.result_forms, task[-1], mw, product)
        # The condition is the compiler's, see `tvm_conv3dt.compiler.large_inputs`; this one has the right operands.
        finite = tirx.abs(made) < tirx.const(float("inf"), "float32")
        return tirx.Select(finite, made, direct(*index))

    sums = te.compute(direct.shape, total, "sums", varargs_names=_result_names())

    def result(*index: Any) -> Any:
        channel = block_start(index[-6], layout.lanes, layout.channels) + index[-1]
        return operands.result(sums[index], channel)

    return te.compute(sums.shape, result, name, varargs_names=_result_names())


def _result_names() -> list[str]:
    return [*_TASK, "cb", "g", "md", "mh", "mw", "v"]


def _sizes(layout: WinogradLayout) -> tuple[int, ...]:
    """Return the extents of tasks and phases, outermost in all that is made."""
    return (layout.workload.batch, *layout.tasks, *layout.phases)


def _position(
    layout: WinogradLayout, task: Sequence[Any], g: Any, within: Sequence[Any]
) -> list[Any]:
    """Return where input number `within` of a group is in ``padded``, for each axis."""
    found = []
    for each, group, r, start, span, number in zip(
        *(layout.filterings, _groups(layout, task, g), task[-3:], layout.starts, layout.spans),
        within,
        strict=True,
    ):
        place = pick(r, _starts(each, start)) + number
        if not each.axis.uniform:
            # Phases of fewer inputs begin later, which TVM does not see: it would have more copied.
            place = tirx.min(place, span - 1)
        found.append(group * each.results + place)
    return found


def _points(layout: WinogradLayout, padded: Any) -> Any:
    """Return the sums of inputs: ``[..., pd, ph, pw, g, ci]``."""
    width = layout.filterings[2]
    shape = (*_sizes(layout), *layout.points, layout.task_groups, layout.copied_channels)

    def along_w(*index: Any) -> Any:
        *task, dd, dh, pw, g, ci = index

        def read(i: int) -> Any:
            return padded(task[0], *_position(layout, task, g, (dd, dh, i)), ci)

        return _sum(width, Filtering.input_forms, task[-1], pw, read)

    names = [*_TASK, "dd", "dh", "pw", "g", "ci"]
    by_w = te.compute(shape, along_w, "along_w", varargs_names=names)
    names[-4] = "ph"
    by_h = te.compute(
        shape, _of_axis(by_w, layout, 1, Filtering.input_forms, 8), "along_h", varargs_names=names
    )
    names[-5] = "pd"
    return te.compute(
        shape, _of_axis(by_h, layout, 0, Filtering.input_forms, 7), "points", varargs_names=names
    )


def _products(layout: WinogradLayout, operands: Operands, points: Any) -> Any:
    """Return the products of points with their filters: ``[..., cb, pd, ph, pw, g, v]``."""
    k = te.reduce_axis((0, layout.workload.in_channels), "k")

    def total(*index: Any) -> Any:
        *task, cb, pd, ph, pw, g, v = index
        places = map(_filter, layout.filterings, task[-3:], (pd, ph, pw))
        factor = operands.packed(cb, _number(places, layout.filters), k, v)
        return te.sum(points(*task, pd, ph, pw, g, _copy_of(layout, k)) * factor, axis=k)

    shape = (*_sizes(layout), layout.blocks, *layout.points, layout.task_groups, layout.lanes)
    names = [*_TASK, "cb", "pd", "ph", "pw", "g", "v"]
    accumulator = te.compute(shape, total, "accumulator", varargs_names=names)

    def copy(*index: Any) -> Any:
        return accumulator[index]

    return te.compute(shape, copy, "products", varargs_names=names)


def _back(layout: WinogradLayout, products: Any) -> Any:
    """Return the sums of products along depth and height: ``[..., cb, md, mh, pw, g, v]``."""
    depth, height, _ = layout.filterings
    outer, inner = (*_sizes(layout), layout.blocks), (layout.task_groups, layout.lanes)
    shape = (*outer, depth.results, *layout.points[1:], *inner)
    names = [*_TASK, "cb", "md", "ph", "pw", "g", "v"]
    by_d = te.compute(
        shape,
        _of_axis(products, layout, 0, Filtering.result_forms, 8),
        "back_d",
        varargs_names=names,
    )
    shape = (*outer, depth.results, height.results, layout.points[2], *inner)
    names[-4] = "mh"
    return te.compute(
        shape, _of_axis(by_d, layout, 1, Filtering.result_forms, 9), "back_h", varargs_names=names
    )


def _of_axis(
    source: Any,
    layout: WinogradLayout,
    axis: int,
    forms: Callable[[Filtering, int], list[Form]],
    place: int,
) -> Callable[..., Any]:
    """Return what makes the sums of an axis: of elements of a tensor that differ at one place of its index."""

    def total(*index: Any) -> Any:
        def element(i: int) -> Any:
            return source(*index[:place], i, *index[place + 1 :])

        phase = index[_TASK.index("rd") + axis]
        return _sum(layout.filterings[axis], forms, phase, index[place], element)

    return total


def _direct(layout: WinogradLayout, operands: Operands, padded: Any) -> Any:
    """Return the results by sums over taps, without bias and activation."""
    channels, kernel = layout.workload.in_channels, [axis.kernel for axis in layout.axes]
    turns = [te.reduce_axis((0, t), f"j{a}") for t, a in zip(layout.taps, "dhw", strict=True)]
    ci = te.reduce_axis((0, channels), "ci")
    jd, jh, jw = turns

    def total(*index: Any) -> Any:
        *task, cb, g, md, mh, mw, v = index
        position = _position(layout, task, g, (md + jd, mh + jh, mw + jw))
        taps = map(_tap, layout.filterings, task[-3:], turns)
        factor = operands.packed(cb, prod(layout.filters) + _number(taps, kernel), ci, v)
        return te.sum(padded(task[0], *position, _copy_of(layout, ci)) * factor, axis=[*turns, ci])

    results = [each.results for each in layout.filterings]
    shape = (*_sizes(layout), layout.blocks, layout.task_groups, *results, layout.lanes)
    return te.compute(shape, total, "direct", varargs_names=_result_names())


def _padded(layout: WinogradLayout, operands: Operands) -> Any:
    """Return the input with the zeros around it that groups read, in whole vectors of channels."""
    counts = zip(layout.tasks, (1, layout.task_rows, layout.task_columns), strict=True)
    sizes = [
        (tasks * groups - 1) * each.results + span
        for each, span, (tasks, groups) in zip(layout.filterings, layout.spans, counts, strict=True)
    ]

    def element(n: Any, d: Any, h: Any, w: Any, c: Any) -> Any:
        d, h, w = (i + start for i, start in zip((d, h, w), layout.starts, strict=True))
        inside = [
            condition
            for i, axis in zip((d, h, w), layout.axes, strict=True)
            for condition in (i >= 0, i < axis.input)
        ]
        block, lane = tirx.floordiv(c, layout.lanes), tirx.floormod(c, layout.lanes)
        channel = block_start(block, layout.lanes, layout.workload.in_channels) + lane
        zero = tirx.const(0, "float32")
        return tirx.if_then_else(tirx.all(*inside), operands.element(n, d, h, w, channel), zero)

    shape = (layout.workload.batch, *sizes, layout.copied_channels)
    return te.compute(shape, element, "padded")


def _copy_of(layout: WinogradLayout, channel: Any) -> Any:
    """Return where copies have an input channel: the last vector, which is whole, begins with some that the one before has, too."""
    more = layout.copied_channels - layout.workload.in_channels
    if not more:
        return channel
    last = layout.copied_channels - layout.lanes
    return channel + tirx.Select(channel >= last, tirx.const(more, "int32"), tirx.const(0, "int32"))


def _groups(layout: WinogradLayout, task: Sequence[Any], g: Any) -> tuple[Any, Any, Any]:
    """Return which groups of depth, height and width group `g` of a task is."""
    _, depth, th, tw, *_ = task
    row, column = tirx.floordiv(g, layout.task_columns), tirx.floormod(g, layout.task_columns)
    if layout.task_rows == 1:
        row, column = 0, g
    return depth, th * layout.task_rows + row, tw * layout.task_columns + column


def _starts(filtering: Filtering, start: int) -> list[Any]:
    """Return the position in ``padded`` of the first input of group 0, for each phase."""
    phases = range(filtering.axis.phases)
    return [tirx.const(filtering.first_input(r) - start, "int32") for r in phases]


def _sum(
    filtering: Filtering,
    forms: Callable[[Filtering, int], list[Form]],
    phase: Any,
    which: Any,
    term: Callable[[int], Any],
) -> Any:
    """Return sum number `which` of a phase."""

    def total(form: Form) -> Any:
        (first, _), *others = form.items()
        found = term(first)
        for number, factor in others:
            found = found + term(number) if factor > 0 else found - term(number)
        return found

    phases = [forms(filtering, r) for r in range(filtering.axis.phases)]
    if all(each == phases[0] for each in phases):
        phases = phases[:1]
    return pick(phase, [pick(which, [total(form) for form in each]) for each in phases])


def _filter(filtering: Filtering, phase: Any, point: Any) -> Any:
    """Return which of an axis' sums of taps a product has."""
    own = [0 if filtering.shares_tap(r) else point for r in range(filtering.axis.phases)]
    if filtering.axis.uniform:
        return phase * len(filtering.tap_forms(0)) + own[0]
    return pick(phase, [first + n for first, n in zip(filtering.first_filters, own, strict=True)])


def _tap(filtering: Filtering, phase: Any, j: Any) -> Any:
    """Return which of the kernel's taps tap `j` of a phase is, in the order of inputs."""
    return pick(
        phase,
        [
            filtering.tap_numbers(r)[0] - j * filtering.axis.tap_step
            for r in range(filtering.axis.phases)
        ],
    )


def _number(places: Iterable[Any], sizes: Sequence[int]) -> Any:
    """Return the number in memory of an element of an array."""
    depth, height, width = places
    return (depth * sizes[1] + height) * sizes[2] + width


def place_of(layout: WinogradLayout, index: Any) -> Place:
    """Return where a result by groups belongs."""
    n, gd, th, tw, rd, rh, rw, cb, g, md, mh, mw, v = index
    depth, _, width = layout.filterings
    qd, qh, qw = (
        group * each.results + m
        for each, group, m in zip(
            layout.filterings, _groups(layout, (n, gd, th, tw), g), (md, mh, mw), strict=True
        )
    )
    w = qw * width.axis.stride + rw
    exists = []
    if layout.tasks[0] * depth.results != depth.axis.quotients and depth.axis.exact:
        exists.append(qd < depth.axis.quotients)
    columns = layout.tasks[2] * layout.task_columns * width.results
    if columns != width.axis.quotients or not width.axis.exact:
        exists.append(w < width.axis.output)
    channel = block_start(cb, layout.lanes, layout.channels) + v
    return Place(n, (qd, rd), (qh, rh), w, channel, exists)
