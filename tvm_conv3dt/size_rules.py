"""TensorFlow's rules on the sizes of one call: which shapes go together; PyTorch's and ONNX's where padding is explicit.

They are checked in TensorFlow's order: channels of the output, channels of the input, batch, then axis by axis.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, TypeAlias

from tvm_conv3dt.arguments import LARGEST, refuse
from tvm_conv3dt.errors import WorkloadError, describe

if TYPE_CHECKING:
    from tvm_conv3dt.phases import Axis
    from tvm_conv3dt.spec import Workload

__all__ = ["check", "named", "pad_before"]

Padding: TypeAlias = "str | tuple[int, int, int]"

_AXIS_NAMES = ("depth", "height", "width")


def check(workload: Workload) -> None:
    """Refuse a workload whose sizes do not go together.

    Parameters
    ----------
    workload : Workload
        Its fields in normal form, each entry in range.

    Raises
    ------
    WorkloadError
        If channels or batches differ; if an output size cannot belong to its input size; or if a
        tensor is too large to be addressed.
    """
    _check_channels_and_batch(workload)
    _check_axes(workload)
    _check_volume(workload)


def pad_before(name: str, axis: Axis) -> int:
    """Return how many positions ``"SAME"`` or ``"VALID"`` cuts off before an axis of these sizes."""
    # What the output lacks of the full extent; the odd one is cut off at the end.
    return max(0, _extent(axis) - axis.output) // 2 if name == "SAME" else 0


def named(padding: Padding, axes: tuple[Axis, ...]) -> Padding:
    """Return a padding, which is that of the axes, by the name that means the same, if there is one."""
    if isinstance(padding, str):
        return padding
    for name in ("VALID", "SAME"):
        if all(axis.pad == pad_before(name, axis) and _allows(name, axis) for axis in axes):
            return name
    return padding


def _check_channels_and_batch(workload: Workload) -> None:
    channel = workload.data_format.index("C")
    for name, shape, wanted, owner in (
        ("output_shape", workload.output_shape, workload.out_channels, "out_channels, entry 3"),
        ("input", workload.input, workload.in_channels, "in_channels, entry 4"),
    ):
        if shape[channel] != wanted:
            raise refuse(
                name,
                list(shape),
                f"its channels, entry {channel} in {workload.data_format}, are {shape[channel]} and must "
                f"be {wanted}, the {owner} of filters={list(workload.filters)}",
            )
    if workload.output_shape[0] != workload.batch:
        raise refuse(
            "output_shape",
            list(workload.output_shape),
            f"its batch is {workload.output_shape[0]} and must be {workload.batch}, that of the input",
        )


def _check_axes(workload: Workload) -> None:
    for name, axis in zip(_AXIS_NAMES, workload.axes, strict=True):
        padding = workload.padding if isinstance(workload.padding, str) else f"padding {axis.pad}"
        given = (
            f"output_shape={list(workload.output_shape)} ({name}: kernel {axis.kernel}, "
            f"stride {axis.stride}, dilation {axis.dilation}, {padding})"
        )
        if not _allows(workload.padding, axis):
            rule, mend = _misfit(workload.padding, axis)
            raise WorkloadError(describe("make", "workload", given, rule, mend))
        reach = max(_extent(axis), axis.output + axis.pad)
        if reach > LARGEST:
            raise WorkloadError(
                describe(
                    "make",
                    "workload",
                    given,
                    f"its taps reach over {reach} positions, and at most {LARGEST} are counted",
                )
            )


def _allows(padding: Padding, axis: Axis) -> bool:
    least, most = _outputs(padding, axis)
    return least <= axis.output <= most


def _misfit(padding: Padding, axis: Axis) -> tuple[str, str]:
    """Return the rule that an axis breaks, and what mends it."""
    least, most = _outputs(padding, axis)
    mend = f"an input of {axis.input} allows outputs from {least} to {most}"
    if not isinstance(padding, str):
        left = _extent(axis) - axis.pad
        rule = (
            f"an input of {axis.input} reaches {_extent(axis)} positions, of which this padding leaves {max(left, 0)}, "
            f"and fewer zeros may follow than the larger of stride and dilation"
        )
        return rule, mend if most >= least else "make the padding smaller"
    extent = (axis.kernel - 1) * axis.dilation + 1
    expected = -(-axis.output // axis.stride)
    if padding == "VALID":
        expected = (axis.output - extent + axis.stride) // axis.stride
    rule = (
        f"an output of {axis.output} needs an input of {max(expected, 0)}, "
        f"and the input has {axis.input}"
    )
    return rule, mend


def _outputs(padding: Padding, axis: Axis) -> tuple[int, int]:
    """Return the least and the most output that an axis allows."""
    if padding == "VALID":
        return _extent(axis), _extent(axis) + axis.stride - 1
    if padding == "SAME":
        return (axis.input - 1) * axis.stride + 1, axis.input * axis.stride
    # Any end may be cut off. PyTorch and ONNX let output_padding be less than the larger of the two.
    return 1, _extent(axis) - axis.pad + max(axis.stride, axis.dilation) - 1


def _extent(axis: Axis) -> int:
    """Return how many positions the taps of all inputs reach."""
    return (axis.input - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1


def _check_volume(workload: Workload) -> None:
    for name in ("input", "filters", "output_shape"):
        shape = getattr(workload, name)
        if prod(shape) * workload.itemsize >= 2**63:
            raise refuse(
                name, list(shape), f"as {workload.dtype} its bytes must be fewer than 2**63"
            )
