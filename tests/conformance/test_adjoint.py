"""Is the operator the transpose of `conv3d`: <conv3d(a), b> == <a, conv3d_transpose(b)>, exactly?"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import Workload

from . import legal
from .calling import by_function

pytest.importorskip("tvm")


def conv3d(a: np.ndarray, workload: Workload, filters: np.ndarray) -> np.ndarray:
    """``tf.nn.conv3d`` of integers, NDHWC, as TensorFlow documents it: pad, then a strided window.

    The filters are ``[kd, kh, kw, channels of a, channels of the result]``.
    """
    padded, sizes = a.astype(np.int64), []
    for axis in range(3):
        size, kernel = a.shape[1 + axis], filters.shape[axis]
        stride, dilation = workload.strides[axis], workload.dilations[axis]
        extent = (kernel - 1) * dilation + 1
        before = after = 0
        if workload.padding == "SAME":
            result = -(-size // stride)
            total = max((result - 1) * stride + extent - size, 0)
            before, after = total // 2, total - total // 2
        else:
            result = (size - extent) // stride + 1
        widths = [(0, 0)] * 5
        widths[1 + axis] = before, after
        padded = np.pad(padded, widths)
        sizes.append(result)
    total = np.zeros((a.shape[0], *sizes, filters.shape[4]), np.int64)
    for taps in itertools.product(*map(range, filters.shape[:3])):
        window = tuple(
            slice(tap * dilation, tap * dilation + (size - 1) * stride + 1, stride)
            for tap, dilation, size, stride in zip(
                taps, workload.dilations, sizes, workload.strides, strict=True
            )
        )
        total += padded[(slice(None), *window)] @ filters[taps].astype(np.int64)
    return total


def last(workload: Workload, array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 1, -1) if workload.data_format == "NCDHW" else array


def check(workload: Workload, transpose: Callable[..., np.ndarray]) -> None:
    b, filters, _ = integer_data(workload, 0)
    a = np.random.default_rng(0).integers(-8, 8, workload.output_shape, endpoint=True)
    y = transpose(workload, b, filters)
    assert (y == np.rint(y)).all(), workload.id
    forward = conv3d(last(workload, a), workload, filters)
    assert forward.shape == last(workload, b).shape
    one = (forward * last(workload, b).astype(np.int64)).sum()
    assert one == (a * y.astype(np.int64)).sum(), workload.id


# The half types round their sums when they store them.
EXACT = ("float32", "float64")


def test_conv3d_by_hand():
    workload = Workload.make([1, 2, 1, 1, 1], [3, 1, 1, 1, 1], [1, 4, 1, 1, 1], [2, 1, 1])
    a = np.array([1, 10, 100, 1000]).reshape(workload.output_shape)
    filters = np.array([1, 2, 3]).reshape(workload.filters)
    assert conv3d(a, workload, filters).ravel().tolist() == [321, 2100]


def test_the_reference_is_the_adjoint(calls, conformance_seed):
    for workload in legal.draw(calls, conformance_seed, dtypes=EXACT, epilogue=False):
        check(workload, reference)


def test_what_is_compiled_is_the_adjoint(calls, conformance_seed):
    for workload in legal.draw(max(1, calls // 5), conformance_seed, dtypes=EXACT, epilogue=False):
        check(workload, by_function)
