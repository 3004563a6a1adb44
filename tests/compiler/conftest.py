"""A small workload, compiled kernels, and whether one of them is exact."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from tvm_conv3dt.compiler import kernel, pipeline
from tvm_conv3dt.compiler.spaces import llvm
from tvm_conv3dt.compiler.target import resolve
from tvm_conv3dt.device import Device
from tvm_conv3dt.memory import stored
from tvm_conv3dt.reference import integer_data, reference
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
def tensor() -> Callable[[np.ndarray], Any]:
    """``tensor(array)``: the same memory, as compiled code takes it."""
    return lambda array: tvm.runtime.from_dlpack(stored(array))


@pytest.fixture(scope="session")
def call() -> Callable[..., np.ndarray]:
    """``call(kernel, x, filters, bias=None)`` on an output of NaN."""

    def call(kernel: Any, x: Any, filters: Any, bias: Any = None) -> np.ndarray:
        def tensor(array: np.ndarray) -> Any:
            return tvm.runtime.tensor(stored(array))

        workload = kernel.workload
        bits = np.empty(kernel.packed_shape, kernel.packed_dtype)
        bits.view(np.uint8)[...] = 0xFF  # a NaN, whatever the dtype
        packed = tensor(bits)
        kernel.pack(tensor(filters), packed)
        y = tensor(np.full(workload.output_shape, np.nan, workload.numpy_dtype))
        constants = (packed,) if bias is None else (packed, tensor(bias))
        kernel.run(tensor(x), *constants, y)
        return y.numpy().view(workload.numpy_dtype)

    return call


@pytest.fixture(scope="session")
def built() -> Callable[..., kernel.Kernel]:
    """``built(workload, device, point)``: the kernel that a point of the space is."""

    def built(workload: Workload, device: Device, point: Any) -> kernel.Kernel:
        layout = llvm.layout_of(workload, device, point.formulation)
        sch = kernel.new_schedule(layout)
        llvm.apply(sch, layout, device, point.family, point.choose)
        return kernel.compile_kernel(layout, device, sch)

    return built


@pytest.fixture
def left_by(monkeypatch: pytest.MonkeyPatch, built: Any) -> Callable[..., Any]:
    """``left_by(module, name, stays, workload, device, point)``: a point's function as a pass that asks ahead leaves it.

    `stays` bytes of what it asks for are taken for near.
    """

    def left_by(
        module: Any, name: str, stays: int, workload: Workload, device: Device, point: Any
    ) -> Any:
        monkeypatch.setattr(module, "_STAY_BYTES", stays)
        functions: list[Any] = []

        def record(function: Any) -> Any:
            functions.append(getattr(module, name)(function))
            return functions[-1]

        monkeypatch.setattr(pipeline, name, record)
        built(workload, device, point)
        return functions[0]

    return left_by


@pytest.fixture(scope="session")
def inexact(call: Any, built: Any) -> Callable[..., list[Any]]:
    """``inexact(workload, device, points)``: those that are not exact on integers."""

    def inexact(workload: Workload, device: Device, points: Any) -> list[Any]:
        data = integer_data(workload, seed=0)
        expected = reference(workload, *data).astype(workload.numpy_dtype)
        points = list(points)
        assert points
        return [
            point
            for point in points
            if not np.array_equal(call(built(workload, device, point), *data), expected)
        ]

    return inexact
