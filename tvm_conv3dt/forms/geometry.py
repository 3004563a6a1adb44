"""Sizes as PyTorch and ONNX write them."""

from __future__ import annotations

import numbers
from collections.abc import Sequence

from tvm_conv3dt import arguments
from tvm_conv3dt.arguments import refuse
from tvm_conv3dt.errors import ArgumentTypeError, WorkloadError, describe, show

__all__ = ["check_output_padding", "count", "output_sizes", "reach", "triple"]

Triple = tuple[int, int, int]

_AXIS_NAMES = ("depth", "height", "width")


def triple(field: str, value: object, least: int) -> Triple:
    """Return what is given for all axes at once, or for each, as three ints of at least `least`.

    Raises
    ------
    ArgumentTypeError
        If it is no int and no sequence of ints.
    WorkloadError
        If it has another length than 1 or 3, or an entry is too small or too large.
    """
    single = isinstance(value, numbers.Number)
    entries = arguments.integers(field, [value] if single else value, (1, 3), least)
    depth, height, width = entries * 3 if len(entries) == 1 else entries
    return depth, height, width


def count(field: str, value: object) -> int:
    """Return an int of at least 1.

    Raises
    ------
    ArgumentTypeError
        If it is no int.
    WorkloadError
        If it is less than 1.
    """
    if not isinstance(value, numbers.Number):
        rule = "it must be an integer"
        raise ArgumentTypeError(describe("make", "workload", f"{field}={show(value)}", rule))
    (result,) = arguments.integers(field, [value], (1,), 1)
    return result


def reach(
    spatial: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Triple:
    """Return how many positions the taps of all inputs reach, along each axis."""
    depth, height, width = (
        (size - 1) * stride + (taps - 1) * dilation + 1
        for size, taps, stride, dilation in zip(spatial, kernel, strides, dilations, strict=True)
    )
    return depth, height, width


def check_output_padding(
    output_padding: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> None:
    """Refuse an output padding that is not less than the larger of stride and dilation.

    Raises
    ------
    WorkloadError
        If an entry is not.
    """
    for name, extra, stride, dilation in zip(
        _AXIS_NAMES, output_padding, strides, dilations, strict=True
    ):
        if extra >= max(stride, dilation):
            rule = f"for {name} it must be less than the larger of stride {stride} and dilation {dilation}"
            raise refuse("output_padding", list(output_padding), rule)


def output_sizes(
    reached: Sequence[int], before: Sequence[int], after: Sequence[int], extra: Sequence[int]
) -> Triple:
    """Return the output's size along each axis: what is reached, less what is cut off, and what is added.

    Raises
    ------
    WorkloadError
        If nothing is left.
    """
    depth, height, width = sizes = tuple(
        r - b - a + e for r, b, a, e in zip(reached, before, after, extra, strict=True)
    )
    for name, size in zip(_AXIS_NAMES, sizes, strict=True):
        if size < 1:
            value = f"padding={list(before)}" + (f" and {list(after)}" if after != before else "")
            rule = f"it leaves an output of {size} for {name}, and there must be at least 1"
            raise WorkloadError(describe("make", "workload", value, rule))
    return depth, height, width
