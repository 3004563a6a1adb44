"""A transposed convolution of another framework, in this package's terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tvm_conv3dt import arguments
from tvm_conv3dt.arguments import refuse
from tvm_conv3dt.errors import ArgumentTypeError, ArrayError, describe
from tvm_conv3dt.runtime import frameworks
from tvm_conv3dt.spec import DTYPES, Workload

if TYPE_CHECKING:
    from tvm_conv3dt.runtime import Bundle, GroupedOperator

__all__ = ["Array", "ConvTranspose", "assemble", "constant"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class ConvTranspose:
    """A transposed convolution: the workload of one group, and what each group convolves with.

    `from_torch`, `from_torch_functional` and `from_onnx` make it. The arrays are copies, and read-only.

    Attributes
    ----------
    workload : Workload
        What one group computes. Its id is what ``tvm-conv3dt build --workloads`` and ``tune`` take.
    filters : tuple of ndarray
        One for each group, of shape ``[kd, kh, kw, out_channels, in_channels]``, the channels of a group.
    bias : ndarray or None
        Shape ``[out_channels]``, of all groups.
    batched : bool
        Whether arrays have a batch's axis; PyTorch's may lack it.
    """

    workload: Workload
    filters: tuple[Array, ...]
    bias: Array | None
    batched: bool = True

    @property
    def groups(self) -> int:
        """How many groups of channels there are."""
        return len(self.filters)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, of all groups, in the workload's data format."""
        return self._whole(self.workload.input)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, of all groups, in the workload's data format."""
        return self._whole(self.workload.output_shape)

    def operator(self, bundle: Bundle | None = None) -> GroupedOperator:
        """Return what computes it; the filters are packed, once.

        Parameters
        ----------
        bundle : Bundle, optional
            A loaded bundle that holds the workload. Without it, one that this process has loaded, or else
            the workload is compiled, as `tvm_conv3dt.conv3d_transpose` does.

        Returns
        -------
        GroupedOperator
            Call it with the input.

        Raises
        ------
        WorkloadNotFoundError
            If the bundle does not hold the workload.
        CompilerMissingError
            If none is given, no loaded one holds it, and the compiler is not installed.
        """
        from tvm_conv3dt import functional
        from tvm_conv3dt.runtime import GroupedOperator

        holder = functional.bundle_for(self.workload) if bundle is None else bundle
        size = self.workload.out_channels
        return GroupedOperator(
            [
                holder.operator(
                    self.workload,
                    filters,
                    None if self.bias is None else self.bias[group * size : (group + 1) * size],
                )
                for group, filters in enumerate(self.filters)
            ],
            batched=self.batched,
        )

    def __repr__(self) -> str:
        groups = f"{self.groups} groups of " if self.groups > 1 else ""
        return f"<ConvTranspose {groups}{self.workload.id}>"

    def _whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        sizes = list(shape)
        sizes[self.workload.data_format.index("C")] *= self.groups
        return tuple(sizes if self.batched else sizes[1:])


def constant(name: str, value: object) -> Array:
    """Return a framework's tensor as a NumPy array of one of the element types, in native byte order.

    Raises
    ------
    ArgumentTypeError
        If it is no array, or of another element type.
    ArrayError
        If its values are not to be had.
    """
    tensor: Any = value
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        # A parameter of PyTorch records gradients and may lie on a GPU; here it is a constant.
        try:
            tensor = tensor.detach().cpu()
        except Exception as error:  # lazy parameters and those without memory each raise their own
            rule = f"its values cannot be read ({str(error).strip().splitlines()[0]})"
            raise ArrayError(
                describe("use", f"array {name}", type(value).__name__, rule)
            ) from error
    array = frameworks.to_numpy(name, tensor)
    if array.dtype.name not in DTYPES:
        rule = f"it must be one of {', '.join(DTYPES)}"
        raise ArgumentTypeError(describe("use", f"array {name}", f"dtype={array.dtype}", rule))
    # What is of another package, bfloat16, has no byte order.
    return array if array.dtype.isbuiltin == 2 else array.astype(array.dtype.newbyteorder("="))


def assemble(
    weight: Array,
    bias: Array | None,
    groups: int,
    input_shape: Sequence[int],
    output_spatial: Sequence[int],
    strides: tuple[int, ...],
    pad_before: tuple[int, ...],
    dilations: tuple[int, ...],
    data_format: str,
    batched: bool = True,
    precision: str | None = None,
) -> ConvTranspose:
    """Return the convolution that other frameworks' arrays and sizes describe.

    Parameters
    ----------
    weight : ndarray
        Shape ``[in_channels, out_channels / groups, kd, kh, kw]``.
    bias : ndarray or None
        Shape ``[out_channels]``.
    groups : int
        Groups of channels.
    input_shape : sequence of 5 int
        Batch, channels, depth, height, width.
    output_spatial, strides, pad_before, dilations : sequence of 3 int
        The output's size, and how it comes about.
    data_format : str
        Of the arrays that the operator takes: ``"NCDHW"`` or ``"NDHWC"``.
    batched : bool
        Whether the operator's arrays have a batch's axis.
    precision : str or None
        As for `Workload`.

    Raises
    ------
    WorkloadError
        If channels do not divide, sizes do not go together, or there is a precision for another dtype than its own.
    ArgumentTypeError
        If `bias` has another dtype than `weight`.
    ArrayError
        If `bias` has another shape.
    """
    arguments.choice("data_format", data_format, ("NDHWC", "NCDHW"))
    batch, channels, *spatial = input_shape
    in_channels, group_out, *kernel = weight.shape
    if channels != in_channels:
        rule = f"its channels, entry 1, are {channels} and must be {in_channels}, those of the weight's entry 0"
        raise refuse("input_shape", list(input_shape), rule)
    if in_channels % groups:
        raise refuse("groups", groups, f"it must divide the input's {in_channels} channels")
    group_in, out_channels = in_channels // groups, group_out * groups
    if bias is not None and bias.dtype != weight.dtype:
        value = f"bias of {bias.dtype} and weight of {weight.dtype}"
        raise ArgumentTypeError(
            describe("make", "workload", value, "they must have the same dtype")
        )
    if bias is not None and bias.shape != (out_channels,):
        rule = f"its shape must be [{out_channels}], one value for each output channel"
        raise ArrayError(describe("use", "array bias", f"shape={list(bias.shape)}", rule))

    def shape(sizes: Sequence[int], count: int) -> list[int]:
        return [batch, *sizes, count] if data_format == "NDHWC" else [batch, count, *sizes]

    workload = Workload.make(
        shape(spatial, group_in),
        [*kernel, group_out, group_in],
        shape(output_spatial, group_out),
        strides,
        pad_before,
        data_format,
        dilations,
        weight.dtype.name,
        bias=bias is not None,
        precision=precision,
    )
    by_group = weight.reshape(groups, group_in, group_out, *kernel).transpose(0, 3, 4, 5, 2, 1)
    return ConvTranspose(
        workload,
        tuple(_frozen(each) for each in by_group),
        None if bias is None else _frozen(bias),
        batched,
    )


def _frozen(array: Array) -> Array:
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy
