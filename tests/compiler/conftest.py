"""A small workload, and compiled kernels of it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from tvm_conv3dt.compiler.target import resolve
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import Workload


@pytest.fixture(scope="session")
def host() -> Device:
    """This machine."""
    return resolve("host")


@pytest.fixture(scope="session")
def small() -> Workload:
    """Two phases of different taps on each axis, an odd width, one channel more than a vector of 8."""
    return Workload.make((1, 2, 2, 5, 3), (3, 3, 3, 9, 3), (1, 4, 4, 10, 9), 2)


@pytest.fixture(scope="session")
def call() -> Callable[..., np.ndarray]:
    """``call(kernel, x, filters, bias=None)`` on an output of NaN."""

    def call(kernel: Any, x: Any, filters: Any, bias: Any = None) -> np.ndarray:
        packed = tvm.runtime.empty(kernel.packed_shape, "float32")
        kernel.pack(tvm.runtime.tensor(filters), packed)
        y = tvm.runtime.tensor(np.full(kernel.workload.output_shape, np.nan, np.float32))
        constants = (packed,) if bias is None else (packed, tvm.runtime.tensor(bias))
        kernel.run(tvm.runtime.tensor(x), *constants, y)
        return y.numpy()

    return call
