"""What crashed other implementations: each is a clear error here, and a legal call right after it is right."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import tvm_conv3dt
from tvm_conv3dt.errors import ArgumentTypeError, WorkloadError
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import Workload

from . import legal
from .illegal import BASE, BIAS, FILTERS, X, array

pytest.importorskip("tvm")

SIZES = "its entry {} must be at least 1"
LARGE = "its entry {} must be at most 2147483647"
CRASHES = {
    "output_shape of length 1": ({"output_shape": [8]}, "output_shape=[8]: its length is 1"),
    "empty output_shape": ({"output_shape": []}, "output_shape=[]: its length is 0"),
    "empty output_shape array": ({"output_shape": np.zeros(0, np.int32)}, "its length is 0"),
    "negative entry": ({"output_shape": [1, 4, -6, 8, 5]}, SIZES.format(2)),
    "most negative entry": ({"output_shape": [1, 4, -(2**63), 8, 5]}, SIZES.format(2)),
    "zero entry": ({"output_shape": [1, 4, 6, 0, 5]}, SIZES.format(3)),
    "huge entry": ({"output_shape": [1, 4, 6, 2**31, 5]}, LARGE.format(3)),
    "entry of 2**62": ({"output_shape": [1, 2**62, 6, 8, 5]}, LARGE.format(1)),
    "entry past 64 bits": ({"output_shape": [1, 4, 6, 8, 2**64 + 5]}, LARGE.format(4)),
    "huge entries that multiply to little": (
        {"output_shape": [2**32, 2**32, 6, 8, 5]},
        LARGE.format(0),
    ),
    "stride of 2**62": ({"strides": 2**62}, f"strides={2**62}: {LARGE.format(0)}"),
    "one stride of 2**62": ({"strides": [1, 2, 2, 2**62, 1]}, LARGE.format(3)),
    "dilation of 2**62": ({"dilations": 2**62}, f"dilations={2**62}: {LARGE.format(0)}"),
    "filter without a tap": ({"filters": array((2, 0, 2, 5, 3))}, SIZES.format(1)),
    "filter without channels": (
        {"filters": array((1, 46341, 46341, 1, 0))},
        "filters=[1, 46341, 46341, 1, 0]: its entry 4 must be at least 1",
    ),
    "batch of 0": ({"input": array((0, 2, 3, 4, 3))}, "input=[0, 2, 3, 4, 3]: its entry 0"),
    "batch of 0 everywhere": (
        {"input": array((0, 2, 3, 4, 3)), "output_shape": [0, 4, 6, 8, 5]},
        SIZES.format(0),
    ),
    "bool in output_shape": ({"output_shape": [True, 4, 6, 8, 5]}, "integers, not bools"),
    "bools as output_shape": ({"output_shape": np.ones(5, bool)}, "integers, not bools"),
    "input of rank 4": ({"input": array((2, 3, 4, 3))}, "input=(2, 3, 4, 3): its length is 4"),
    "filters of rank 4": ({"filters": array((2, 2, 5, 3))}, "filters=(2, 2, 5, 3): its length"),
    "channels of the input": ({"input": array((1, 2, 3, 4, 4))}, "are 4 and must be 3"),
    "channels of the filters": ({"filters": array((2, 2, 2, 5, 4))}, "are 3 and must be 4"),
    "channels of the output": ({"output_shape": [1, 4, 6, 8, 4]}, "are 4 and must be 5"),
}


def call(**changes):
    arguments = {
        "input": X,
        "filters": FILTERS,
        "output_shape": BASE.output_shape,
        "strides": 2,
        "bias": BIAS,
    }
    return tvm_conv3dt.conv3d_transpose(**{**arguments, **changes})


@pytest.mark.parametrize("name", CRASHES)
def test_crash_elsewhere_is_an_error_here(name):
    changes, text = CRASHES[name]
    kind = ArgumentTypeError if "bool" in name else WorkloadError
    with pytest.raises(kind, match="^failed to make workload with .*" + re.escape(text)):
        call(**changes)
    assert np.array_equal(call(), reference(BASE, X, FILTERS, BIAS))


@pytest.mark.parametrize("name", CRASHES)
def test_crash_elsewhere_is_no_workload(name):
    changes, text = CRASHES[name]
    legal = {
        "input": BASE.input,
        "filters": BASE.filters,
        "output_shape": BASE.output_shape,
        "strides": 2,
    }
    changed = {
        key: value.shape if key in ("input", "filters") else value for key, value in changes.items()
    }
    kind = ArgumentTypeError if "bool" in name else WorkloadError
    with pytest.raises(kind, match=re.escape(text)):
        Workload.make(**{**legal, **changed})


def exact(workload: Workload) -> Workload:
    """Without an activation that rounds."""
    if workload.activation in (None, "relu", "leaky_relu"):
        return workload
    return replace(workload, activation=None, alpha=None)


@pytest.mark.parametrize("where", ["input", "filters", "bias"])
def test_non_finite_values_pass_as_ieee_arithmetic_says(
    where: str, calls: int, sweep: Callable[..., None]
):
    def check(drawn: Workload) -> None:
        workload = exact(drawn)
        data = dict(zip(("input", "filters", "bias"), integer_data(workload, 0), strict=True))
        if data[where] is not None:
            values = data[where].reshape(-1)
            places = np.random.default_rng(0).integers(0, values.size, 3)
            values[places] = [np.nan, np.inf, -np.inf]
        with np.errstate(all="ignore"):
            expected = reference(workload, *data.values()).astype(workload.numpy_dtype)
        found = tvm_conv3dt.conv3d_transpose(
            **data,
            output_shape=workload.output_shape,
            strides=workload.strides,
            padding=workload.padding,
            data_format=workload.data_format,
            dilations=workload.dilations,
            activation=workload.activation,
            alpha=workload.alpha,
        )
        # NumPy takes no two NaN of bfloat16 for equal.
        np.testing.assert_array_equal(found.astype(np.float64), expected.astype(np.float64))

    sweep(f"not finite {where}", max(1, calls // 4), legal.workloads(), check)
