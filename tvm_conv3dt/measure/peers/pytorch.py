"""PyTorch: `conv_transpose3d` in inference mode, in both memory formats.

Its `padding` cuts as much off the end as off the beginning, and `output_padding` gives some of it back. Where
TensorFlow's rule cuts more off the end, or an explicit padding less than can be given back, the result is a slice of
a slightly larger one: a view, no copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from tvm_conv3dt.measure.peers.problem import Array, Problem, Started, Variant
from tvm_conv3dt.memory import stored
from tvm_conv3dt.spec import Workload

__all__ = ["FORMATS", "array", "layer", "start"]

FORMATS = {"contiguous": torch.contiguous_format, "channels_last_3d": torch.channels_last_3d}
"""PyTorch's memory formats of volumes, by name."""


def start(threads: int) -> Started:
    """Set the threads."""
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    return Started(str(torch.__version__), _prepare)


def _prepare(problem: Problem) -> Sequence[Variant]:
    workload = problem.workload
    return [
        Variant(
            name,
            "fresh",
            layer(problem, memory_format),
            lambda y: problem.from_channels_first(array(y, workload)),
        )
        for name, memory_format in FORMATS.items()
    ]


def layer(problem: Problem, memory_format: Any, device: str = "cpu") -> Callable[[], Any]:
    """Return the layer as a call without arguments, its arrays on `device` already."""
    workload = problem.workload

    def tensor(values: Array) -> Any:
        # bfloat16 crosses as its bits: PyTorch does not know NumPy's.
        bits = torch.from_numpy(stored(values)).view(getattr(torch, workload.dtype))
        return bits.to(device)

    x, filters = (
        tensor(each).contiguous(memory_format=memory_format)
        for each in (problem.channels_first, problem.filters_by_channels)
    )
    bias = None if problem.bias is None else tensor(problem.bias)
    before, after = workload.pad_before, problem.pad_after
    # output_padding may be one less than the larger of stride and dilation.
    pads = tuple(
        min(b, a + max(axis.stride, axis.dilation) - 1)
        for b, a, axis in zip(before, after, workload.axes, strict=True)
    )
    extra = tuple(max(0, p - a) for p, a in zip(pads, after, strict=True))
    kept = [
        slice(b - p, b - p + axis.output)
        for b, p, axis in zip(before, pads, workload.axes, strict=True)
    ]
    sliced = any(a > p or b > p for b, a, p in zip(before, after, pads, strict=True))
    place = (slice(None), slice(None), *kept)
    activate = _activation(workload)

    def run() -> Any:
        with torch.inference_mode():
            y = functional.conv_transpose3d(
                x, filters, bias, workload.strides, pads, extra, 1, workload.dilations
            )
            y = activate(y)
            return y[place] if sliced else y

    return run


def array(y: Any, workload: Workload) -> Array:
    """Return a result, a tensor on the CPU, as a NumPy array over the same memory."""
    if workload.dtype == "bfloat16":
        y = y.view(torch.uint16)
    result: Array = y.numpy()
    return result.view(workload.numpy_dtype)


def _activation(workload: Workload) -> Callable[[Any], Any]:
    alpha = workload.alpha or 0.0
    # In place: the convolution's result is nobody else's.
    activations: dict[str | None, Callable[[Any], Any]] = {
        "relu": functional.relu_,
        "leaky_relu": lambda y: functional.leaky_relu_(y, alpha),
        "elu": lambda y: functional.elu_(y, alpha),
        "sigmoid": torch.sigmoid_,
        "tanh": torch.tanh_,
        None: lambda y: y,
    }
    return activations[workload.activation]
