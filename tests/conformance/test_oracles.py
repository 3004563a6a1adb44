"""Do TensorFlow, PyTorch and ONNX's reference say what our reference and our compiled code say?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tvm_conv3dt.reference import integer_data, random_data, reference
from tvm_conv3dt.spec import Workload

from . import legal
from .calling import by_function
from .oracles import ORACLES

pytestmark = pytest.mark.oracle

DTYPES = ("float32", "float64")  # the half types' sums are rounded differently by each


# What TensorFlow's plain CPU kernels take. oneDNN's take more, and abort where stride meets dilation.
ACCEPTED = {"TensorFlow": {"data_formats": ("NDHWC",), "dilated": False}}


@pytest.fixture(scope="module", params=ORACLES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def oracle(name):
    return ORACLES[name]()


@pytest.fixture(scope="module")
def drawn(name, oracle, calls, conformance_seed) -> list[Workload]:
    """As many as there are calls; no activations, which are operators of their own elsewhere."""
    found = legal.draw(calls, conformance_seed, dtypes=DTYPES, **ACCEPTED.get(name, {}))
    return list(dict.fromkeys(replace(each, activation=None, alpha=None) for each in found))


def test_oracle_gives_what_the_reference_gives_on_integers(name, oracle, drawn, tell):
    for workload in drawn:
        data = integer_data(workload, seed=0)
        expected = reference(workload, *data)
        np.testing.assert_array_equal(oracle(workload, *data), expected, err_msg=workload.id)
    tell(f"{name} against the reference: {len(drawn)} calls")


def test_oracle_gives_what_the_reference_gives_in_float64(oracle, drawn):
    for workload in drawn[: max(1, len(drawn) // 2)]:
        double = replace(workload, dtype="float64")
        data = random_data(double, seed=0)
        expected = reference(double, *data)
        np.testing.assert_allclose(
            oracle(double, *data), expected, rtol=1e-11, atol=1e-11, err_msg=workload.id
        )


def test_oracle_gives_what_is_compiled_on_integers(name, oracle, drawn, tell):
    pytest.importorskip("tvm")
    chosen = drawn[: max(1, len(drawn) // 4)]
    for workload in chosen:
        x, filters, bias = integer_data(workload, seed=1)
        ours = by_function(workload, x, filters, bias)
        theirs = oracle(workload, x, filters, bias)
        np.testing.assert_array_equal(ours, theirs, err_msg=workload.id)
    tell(f"{name} against compiled code: {len(chosen)} calls")
