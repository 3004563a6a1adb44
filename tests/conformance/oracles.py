"""The operator as others have it: TensorFlow, PyTorch, and ONNX's reference, each imported where it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from tvm_conv3dt.spec import Workload

Array = np.ndarray
Oracle = Callable[[Workload, Array, Array, "Array | None"], Array]


class Crop(NamedTuple):
    """What TensorFlow's output size means where all outputs of all taps are computed first: per axis."""

    before: int
    after: int
    tail: int


def crops(workload: Workload) -> list[Crop]:
    """Return what is cut off and what is added, from TensorFlow's documentation and not from our own code."""
    found = []
    for index in range(3):
        size, output = workload.input_spatial[index], workload.output_spatial[index]
        extent = (workload.kernel[index] - 1) * workload.dilations[index] + 1
        full = (size - 1) * workload.strides[index] + extent
        cut = max(full - output, 0)
        found.append(Crop(cut // 2, cut - cut // 2, max(output - full, 0)))
    return found


def channels_first(workload: Workload, array: Array) -> Array:
    if workload.data_format == "NDHWC":
        array = np.moveaxis(array, -1, 1)
    return np.ascontiguousarray(array)


def as_given(workload: Workload, array: Array) -> Array:
    return np.moveaxis(array, 1, -1) if workload.data_format == "NDHWC" else array


def tensorflow() -> Oracle:
    tf = pytest.importorskip("tensorflow")

    def run(workload: Workload, x: Array, filters: Array, bias: Array | None) -> Array:
        strides = [1, *workload.strides, 1]
        y = tf.nn.conv3d_transpose(x, filters, workload.output_shape, strides, workload.padding)
        return (y if bias is None else tf.nn.bias_add(y, bias)).numpy()

    return run


def pytorch() -> Oracle:
    torch = pytest.importorskip("torch")

    def run(workload: Workload, x: Array, filters: Array, bias: Array | None) -> Array:
        crop = crops(workload)
        y = torch.nn.functional.conv_transpose3d(
            torch.from_numpy(channels_first(workload, x)),
            torch.from_numpy(np.ascontiguousarray(filters.transpose(4, 3, 0, 1, 2))),
            None if bias is None else torch.from_numpy(bias),
            stride=workload.strides,
            output_padding=tuple(each.tail for each in crop),
            dilation=workload.dilations,
        ).numpy()
        kept = (
            slice(each.before, size - each.after)
            for each, size in zip(crop, y.shape[2:], strict=True)
        )
        return as_given(workload, y[(slice(None), slice(None), *kept)])

    return run


def onnx() -> Oracle:
    library = pytest.importorskip("onnx")
    evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator

    def run(workload: Workload, x: Array, filters: Array, bias: Array | None) -> Array:
        crop = crops(workload)
        inputs = {
            "x": channels_first(workload, x),
            "w": np.ascontiguousarray(filters.transpose(4, 3, 0, 1, 2)),
            **({} if bias is None else {"b": bias}),
        }
        node = library.helper.make_node(
            "ConvTranspose",
            list(inputs),
            ["y"],
            kernel_shape=workload.kernel,
            strides=workload.strides,
            dilations=workload.dilations,
            pads=[each.before for each in crop] + [each.after for each in crop],
            output_padding=[each.tail for each in crop],
        )
        (y,) = evaluator(node).run(None, inputs)
        return as_given(workload, y)

    return run


ORACLES: dict[str, Callable[[], Oracle]] = {
    "TensorFlow": tensorflow,
    "PyTorch": pytorch,
    "ONNX": onnx,
}
