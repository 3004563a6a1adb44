"""Peers compute what the bundle computes, so that their times mean something."""

import numpy as np
import pytest

from tvm_conv3dt.errors import PlatformError, UnsupportedError
from tvm_conv3dt.measure import peers
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import Workload

SHAPES = ([1, 3, 3, 4, 5], [3, 3, 3, 7, 5], [1, 5, 6, 7, 7], 2)


@pytest.mark.oracle
@pytest.mark.parametrize(
    "workload",
    [
        Workload.make(*SHAPES),
        Workload.make(*SHAPES, bias=True, activation="relu"),
        Workload.make(*SHAPES, bias=True, activation="leaky_relu", alpha=0.5),
    ],
    ids=lambda workload: workload.id,
)
def test_tensorflow_computes_the_workload(workload):
    pytest.importorskip("tensorflow")
    x, filters, bias = integer_data(workload, 0)
    y = np.asarray(peers.prepare("tensorflow", workload, x, filters, bias)())
    np.testing.assert_array_equal(y, reference(workload, x, filters, bias))


def test_peer_that_is_not_installed_is_an_error(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    workload = Workload.make(*SHAPES)
    with pytest.raises(PlatformError, match="failed to time peer with tensorflow"):
        peers.prepare("tensorflow", workload, *integer_data(workload, 0))


def test_workload_that_ends_tensorflow_is_refused():
    pytest.importorskip("tensorflow")
    workload = Workload.make([1, 4, 4, 4, 2], [2, 2, 2, 3, 2], [1, 8, 8, 8, 3], 2, dilations=2)
    with pytest.raises(UnsupportedError, match="dilation together with a stride"):
        peers.prepare("tensorflow", workload, *integer_data(workload, 0))
