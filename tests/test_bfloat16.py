"""Is bfloat16 found where ml_dtypes is, and told how to get where it is not?"""

import sys

import numpy as np
import pytest

from tvm_conv3dt.bfloat16 import bfloat16, numpy_dtype
from tvm_conv3dt.errors import UnsupportedError
from tvm_conv3dt.spec import DTYPES, Workload


def test_it_is_the_workloads():
    pytest.importorskip("ml_dtypes")
    workload = Workload.make((1, 1, 1, 1, 1), (1, 1, 1, 1, 1), (1, 1, 1, 1, 1), 1, dtype="bfloat16")
    assert bfloat16() == workload.numpy_dtype
    # What the package tells bfloat16 from all other dtypes that it takes by.
    assert bfloat16().isbuiltin == 2
    assert {np.dtype(name).isbuiltin for name in ("float16", "float32", "float64")} == {1}


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_has_one_of_numpy_of_its_size(name):
    if name == "bfloat16":
        pytest.importorskip("ml_dtypes")
    assert (numpy_dtype(name).name, numpy_dtype(name).itemsize) == (name, DTYPES[name])


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(UnsupportedError, match="install it with: pip install ml_dtypes"):
        bfloat16()
