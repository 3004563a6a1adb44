"""Do infinities and NaN go where the definition sends them, and nowhere else?"""

import numpy as np
import pytest

import tvm_conv3dt
from tvm_conv3dt.reference import reference
from tvm_conv3dt.spec import Workload

# Few channels of both kinds, the same with as many taps in each phase, and few output channels only.
WORKLOADS = [
    Workload.make((2, 3, 4, 5, 6), (3, 3, 3, 7, 6), (2, 6, 8, 10, 7), 2),
    Workload.make((2, 3, 4, 5, 6), (2, 2, 2, 1, 6), (2, 6, 8, 10, 1), 2),
    Workload.make((2, 3, 4, 5, 35), (3, 3, 3, 1, 35), (2, 6, 8, 10, 1), 2),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TVM_CONV3DT_CACHE", str(tmp_path_factory.getbasetemp() / "nonfinite"))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("where", ["input", "filters"])
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: w.id)
def test_one_value_reaches_what_it_is_multiplied_into(workload, value, where):
    rng = np.random.default_rng(0)
    x = rng.integers(1, 5, workload.input).astype(np.float32)
    filters = rng.integers(1, 5, workload.filters).astype(np.float32)
    (x if where == "input" else filters).flat[7] = value
    got = tvm_conv3dt.conv3d_transpose(x, filters, workload.output_shape, 2)
    np.testing.assert_array_equal(got, reference(workload, x, filters))
