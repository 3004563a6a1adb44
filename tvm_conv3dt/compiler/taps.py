"""Where a tap of a phase reads, as expressions of a compiler; the arithmetic is that of `tvm_conv3dt.phases`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tvm import tirx

from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.phases import Axis

__all__ = ["Tap", "folded_tap", "inside", "less", "places", "tap_of"]


class Tap(NamedTuple):
    """One tap of one output position along an axis.

    Attributes
    ----------
    input : expression
        Position in the input; it may lie outside.
    number : expression
        Which of the kernel's taps it is.
    present : list of expression
        Conditions under which the phase has it.
    """

    input: Any
    number: Any
    present: list[Any]


def tap_of(axis: Axis, q: Any, r: Any, j: Any, bounded: bool = False) -> Tap:
    """Return tap `j` of position `q` of phase `r`; `bounded` by terms of which TVM finds exact bounds.

    Those are for tensor intrinsics, which take regions of arrays.
    """
    first_tap, first_input = _bounded_first(axis, r) if bounded else _first(axis, r)
    number = first_tap + j * axis.tap_step
    present = []
    if not axis.uniform:
        present.append(less(number, axis.kernel))
        if axis.gcd > 1:
            present.append(tirx.floormod(r + axis.pad, axis.gcd) == 0)
    return Tap(q + first_input - j * axis.input_step, number, present)


def folded_tap(axis: Axis, r: Any, j: Any) -> tuple[Any, list[Any]]:
    """Return which of the kernel's taps is number `j` of phase `r` of a folded axis, and when there is such a one.

    ``o + pad == s * i + d * t`` with ``o == s * q + r`` and ``i == q + j + offsets[0]``.
    """
    reach = r + axis.pad - axis.stride * (j + axis.offsets[0])
    number = tirx.floordiv(reach, axis.dilation)
    present = [reach >= 0, number < axis.kernel]
    if axis.dilation > 1:
        present.append(tirx.floormod(reach, axis.dilation) == 0)
    return number, present


def places(
    layout: Layout, quotients: tuple[Any, ...], phases: tuple[Any, ...], turns: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Return where a turn of the loops over taps reads copies with zeros around, and which of the packed taps, for each axis.

    By terms of which TVM finds exact bounds.
    """
    positions, numbers = [], []
    margins = (*layout.margins, layout.halo)
    for axis, folded, q, r, j, (before, _) in zip(
        layout.axes, layout.folded, quotients, phases, turns, margins, strict=True
    ):
        if folded:
            positions.append(q + j + axis.offsets[0] + before)
            numbers.append(j)
            continue
        tap = tap_of(axis, q, r, j, bounded=True)
        positions.append(tap.input + before)
        numbers.append(tap.number)
    return positions, numbers


def inside(axis: Axis, position: Any, leaves: tuple[bool, bool]) -> list[Any]:
    """Return the conditions under which `position` lies in the input, at the ends that taps may leave it by."""
    before, after = leaves
    return [less(-1, position)] * before + [less(position, axis.input)] * after


def less(left: Any, right: Any) -> Any:
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


def _bounded_first(axis: Axis, r: Any) -> tuple[Any, Any]:
    """Return as `_first`; of a selection TVM takes both values for possible at once."""
    whole, rest = divmod(axis.pad, axis.stride)
    if axis.dilation != 1 or rest == 0:
        return _first(axis, r)
    wraps = tirx.min(tirx.max(r - (axis.stride - rest - 1), 0), 1)
    return r + rest - wraps * axis.stride, wraps + whole
