"""PyTorch's `ConvTranspose3d` and `conv_transpose3d`.

PyTorch cuts `padding` positions off both ends, and `output_padding` gives some of those at the end back, or adds zeros.
"""

from __future__ import annotations

from typing import Any

from tvm_conv3dt import arguments
from tvm_conv3dt.arguments import refuse
from tvm_conv3dt.errors import ArgumentTypeError, describe, show
from tvm_conv3dt.forms.conv_transpose import ConvTranspose, assemble, constant
from tvm_conv3dt.forms.geometry import (
    Triple,
    check_output_padding,
    count,
    output_sizes,
    reach,
    triple,
)

__all__ = ["from_torch", "from_torch_functional"]

_FIELDS = ("weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")


def from_torch(
    module: Any,
    input_shape: Any,
    *,
    output_size: Any = None,
    data_format: str = "NCDHW",
    precision: str | None = None,
) -> ConvTranspose:
    """Return a `torch.nn.ConvTranspose3d` for inputs of one shape.

    Parameters
    ----------
    module : torch.nn.ConvTranspose3d
        Its weight and bias are copied as they are now.
    input_shape : sequence of 4 or 5 int
        As PyTorch has it, whatever the `data_format`: ``[batch, channels, depth, height, width]``, or without the batch.
    output_size : sequence of int, optional
        As the module's call takes it: the output's depth, height and width, or its whole shape. The module's
        own `output_padding` does not count then.
    data_format : str
        Of the arrays that the operator takes and returns: ``"NCDHW"``, which is PyTorch's, or ``"NDHWC"``.
    precision : str, optional
        ``"bfloat16"`` permits products of factors rounded to bfloat16, of a weight of float32, and ``"float32"`` forbids what is done
        without a precision; ``"float16"`` permits sums in float16, of a weight of float16; see `Workload`.

    Returns
    -------
    ConvTranspose
        The workload of one group, with filters and bias.

    Raises
    ------
    ArgumentTypeError
        If `module` is something else, or values or tensors have a wrong type.
    WorkloadError
        If shapes and the module do not go together, the padding's mode is not ``"zeros"``, or there is a precision for
        another dtype than its own.
    ArrayError
        If the parameters have no values yet.
    """
    missing = [name for name in _FIELDS if not hasattr(module, name)]
    if missing or not getattr(module, "transposed", True):
        rule = "it must be a torch.nn.ConvTranspose3d"
        raise ArgumentTypeError(describe("read", "module", show(module), rule))
    mode = getattr(module, "padding_mode", "zeros")
    if mode != "zeros":
        raise refuse("padding_mode", mode, "a transposed convolution has zeros only")
    values = {name: getattr(module, name) for name in _FIELDS}
    if output_size is not None:
        values["output_padding"] = 0
    return from_torch_functional(
        input_shape,
        **values,
        output_size=output_size,
        data_format=data_format,
        precision=precision,
    )


def from_torch_functional(
    input_shape: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    output_size: Any = None,
    data_format: str = "NCDHW",
    precision: str | None = None,
) -> ConvTranspose:
    """Return a call of `torch.nn.functional.conv_transpose3d`, with the input's shape instead of the input.

    Parameters
    ----------
    input_shape : sequence of 4 or 5 int
        As for `from_torch`.
    weight : array
        Shape ``[in_channels, out_channels / groups, kd, kh, kw]``: a tensor of PyTorch, or any other array.
    bias : array, optional
        Shape ``[out_channels]``, of the same dtype.
    stride, padding, output_padding, dilation : int or sequence of 1 or 3 int
        For all axes, or for depth, height and width.
    groups : int
        Groups of channels.
    output_size : sequence of int, optional
        As for `from_torch`; instead of `output_padding`.
    data_format, precision : str
        As for `from_torch`.

    Returns
    -------
    ConvTranspose
        The workload of one group, with filters and bias.

    Raises
    ------
    ArgumentTypeError
        If a value or an array has a wrong type.
    WorkloadError
        If values and shapes do not go together, or there is a precision for another dtype than its own.
    ArrayError
        If `bias` has another shape, or values are not to be had.
    """
    sizes = arguments.integers("input_shape", input_shape, (4, 5), 1)
    batched = len(sizes) == 5
    _, _, *spatial = shape = sizes if batched else (1, *sizes)
    weights = constant("weight", weight)
    if weights.ndim != 5:
        rule = "it must be [in_channels, out_channels / groups, kd, kh, kw]"
        raise refuse("weight", list(weights.shape), rule)
    strides, dilations = triple("stride", stride, 1), triple("dilation", dilation, 1)
    pads, extra = triple("padding", padding, 0), triple("output_padding", output_padding, 0)
    check_output_padding(extra, strides, dilations)
    reached = reach(spatial, weights.shape[2:], strides, dilations)
    if output_size is None:
        output = output_sizes(reached, pads, pads, extra)
    else:
        if any(extra):
            raise refuse("output_size", output_size, "output_padding is given as well")
        output = _output_size(output_size, batched, reached, pads, strides)
    return assemble(
        weights,
        None if bias is None else constant("bias", bias),
        count("groups", groups),
        shape,
        output,
        strides,
        pads,
        dilations,
        data_format,
        batched,
        precision,
    )


def _output_size(
    value: Any, batched: bool, reached: Triple, pads: Triple, strides: Triple
) -> Triple:
    entries = arguments.integers("output_size", value, (3, 5 if batched else 4), 1)
    depth, height, width = sizes = entries[-3:]
    least = [r - 2 * p for r, p in zip(reached, pads, strict=True)]
    most = [low + stride - 1 for low, stride in zip(least, strides, strict=True)]
    if not all(low <= size <= high for low, size, high in zip(least, sizes, most, strict=True)):
        raise refuse("output_size", list(entries), f"sizes from {least} to {most} are valid")
    return depth, height, width
