"""A layer's data in the forms that frameworks take."""

import numpy as np
import pytest

from tvm_conv3dt.measure.peers.problem import Problem
from tvm_conv3dt.spec import Workload

WORKLOAD = Workload.make([1, 2, 3, 2, 4], [3, 3, 3, 2, 4], [1, 4, 6, 4, 2], 2, bias=True)


def test_same_values_in_a_wider_type():
    pytest.importorskip("ml_dtypes")
    problem = Problem.of(WORKLOAD.recast(dtype="bfloat16"))
    wide = problem.cast("float32")
    assert wide.workload == WORKLOAD
    for name in ("x", "filters", "bias"):
        found = getattr(wide, name)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, getattr(problem, name).astype(np.float32))


def test_same_type_is_the_same_memory():
    problem = Problem.of(WORKLOAD)
    same = problem.cast("float32")
    assert same.x is problem.x
    assert same.filters is problem.filters


def test_no_bias_stays_none():
    problem = Problem.of(Workload.make([1, 2, 3, 2, 4], [3, 3, 3, 2, 4], [1, 4, 6, 4, 2], 2))
    assert problem.cast("float16").bias is None
