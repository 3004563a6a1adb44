"""TensorFlow's rules on the sizes of one call: which shapes go together.

They are checked in TensorFlow's order: channels of the output, channels of the input, batch, then axis by axis.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from tvm_conv3dt.arguments import LARGEST, refuse
from tvm_conv3dt.errors import WorkloadError, describe

if TYPE_CHECKING:
    from tvm_conv3dt.spec import Workload

__all__ = ["check"]

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
        extent = (axis.kernel - 1) * axis.dilation + 1
        least = (axis.input - 1) * axis.stride + 1
        if workload.padding == "VALID":
            expected = (axis.output - extent + axis.stride) // axis.stride
            least += extent - 1
        else:
            expected = -(-axis.output // axis.stride)
        most = least + axis.stride - 1
        given = (
            f"output_shape={list(workload.output_shape)} ({name}: kernel {axis.kernel}, "
            f"stride {axis.stride}, dilation {axis.dilation}, {workload.padding})"
        )
        if axis.input != expected:
            raise WorkloadError(
                describe(
                    "make",
                    "workload",
                    given,
                    f"an output of {axis.output} needs an input of {max(expected, 0)}, "
                    f"and the input has {axis.input}",
                    f"an input of {axis.input} allows outputs from {least} to {most}",
                )
            )
        reach = (axis.input - 1) * axis.stride + extent
        if reach > LARGEST:
            raise WorkloadError(
                describe(
                    "make",
                    "workload",
                    given,
                    f"its taps reach over {reach} positions, and at most {LARGEST} are counted",
                )
            )


def _check_volume(workload: Workload) -> None:
    for name in ("input", "filters", "output_shape"):
        shape = getattr(workload, name)
        if prod(shape) * workload.itemsize >= 2**63:
            raise refuse(
                name, list(shape), f"as {workload.dtype} its bytes must be fewer than 2**63"
            )
