"""A GPU by its driver, which is a fake one over the CPU's memory, and what is measured of its memory."""

import ctypes

import numpy as np
import pytest

from tvm_conv3dt.errors import PlatformError
from tvm_conv3dt.measure import gpu as gpu_module
from tvm_conv3dt.measure import gpu_ceiling
from tvm_conv3dt.measure.gpu import Gpu, nominal
from tvm_conv3dt.measure.gpu_ceiling import Memory
from tvm_conv3dt.measure.load import written_bytes
from tvm_conv3dt.spec import Workload


class Driver:
    """libcuda, as far as it is asked: work is done at once, and counted."""

    def __init__(self, free=1 << 26):
        self.free = free
        self.memory = {}
        self.current = None
        self.copied = self.filled = self.waits = 0
        self.failing = None
        self.launches = []

    def __getattribute__(self, name):
        if name.startswith("cu") and name == object.__getattribute__(self, "failing"):
            return lambda *arguments: 719
        return object.__getattribute__(self, name)

    def cuDeviceGet(self, device, index):
        device._obj.value = 40 + index.value
        return 0

    def cuDeviceGetAttribute(self, number, which, device):
        assert device.value == 40
        number._obj.value = {13: 1_500_000, 16: 10}[which.value]
        return 0

    def cuDevicePrimaryCtxRetain(self, context, device):
        assert device.value == 40
        context._obj.value = 77
        return 0

    def cuCtxSetCurrent(self, context):
        self.current = context.value
        return 0

    def cuMemGetInfo_v2(self, free, total):
        assert self.current == 77
        free._obj.value = self.free
        return 0

    def cuMemAlloc_v2(self, address, size):
        memory = np.zeros(size.value, np.uint8)
        address._obj.value = memory.ctypes.data
        self.memory[address._obj.value] = memory
        return 0

    def cuMemFree_v2(self, address):
        del self.memory[address.value]
        return 0

    def _inside(self, address, size):
        assert size > 0
        assert any(
            start <= address and address + size <= start + memory.size
            for start, memory in self.memory.items()
        )

    def cuMemcpyDtoDAsync_v2(self, to, by, size, stream):
        self._inside(to.value, size.value)
        self._inside(by.value, size.value)
        assert abs(to.value - by.value) >= size.value, "they overlap"
        self.copied += size.value
        return 0

    def cuMemsetD8Async(self, address, value, size, stream):
        self._inside(address.value, size.value)
        ctypes.memset(address.value, value.value, size.value)
        self.filled += size.value
        return 0

    def cuModuleLoadData(self, module, image):
        module._obj.value = 5
        self.image = image.value
        return 0

    def cuModuleGetFunction(self, function, module, name):
        assert module.value == 5
        function._obj.value = {b"peak": 6}[name]
        return 0

    def cuLaunchKernel(self, function, *rest):
        *sizes, _, arguments, _ = rest
        address = ctypes.c_uint64.from_address(arguments[0]).value
        steps = ctypes.c_int.from_address(arguments[1]).value
        self.launches.append((function.value, [size.value for size in sizes], address, steps))
        return 0

    def cuCtxSynchronize(self):
        self.waits += 1
        return 0


@pytest.fixture
def driver(monkeypatch):
    found = gpu_module.cuda_driver.CudaGpu("Tester", (9, 0))
    both = gpu_module.cuda_driver.CudaDriver((13, 0), (found,))
    monkeypatch.setattr(gpu_module.cuda_driver, "find", lambda: both)
    return Driver()


@pytest.fixture
def gpu(driver):
    return Gpu(driver)


@pytest.mark.parametrize(
    ("capability", "units", "gigahertz", "plain", "matrix"),
    [
        ((9, 0), 132, 1.83, 61.8, 989.4),  # H100 SXM, by its data sheet in 1e12
        ((8, 0), 108, 1.41, 19.5, 312.0),  # A100
        ((7, 5), 40, 1.59, 8.1, 65.0),  # T4
        ((10, 3), 148, 1.85, 70.1, 2243.0),  # as the nearest one below
    ],
)
def test_nominal_figures_are_those_of_data_sheets(capability, units, gigahertz, plain, matrix):
    found = nominal(capability, units, gigahertz * 1e9)
    assert [each / 1e3 for each in found] == pytest.approx([plain, matrix], rel=0.01)


def test_gpu_that_is_not_known_has_no_figures():
    with pytest.raises(PlatformError, match=r"compute capability 7\.0"):
        nominal((7, 0), 1, 1.0)


def test_nominal_figures_of_this_gpu_are_by_its_units_and_clock(gpu):
    assert (gpu.name, gpu.arch, gpu.multiprocessors) == ("Tester", "sm_90", 10)
    assert gpu.nominal() == pytest.approx((128 * 2 * 15.0, 2048 * 2 * 15.0))


def test_memory_is_provided_filled_and_given_back(gpu, driver):
    address = gpu.allocate(12, 0x3F)
    assert set(driver.memory[address]) == {0x3F}
    gpu.release(address)
    assert driver.memory == {}


def test_kernel_gets_its_arguments(gpu, driver):
    kernel = gpu.kernel(b"code", "peak")
    gpu.launch(kernel, 7, 256, (ctypes.c_uint64(1 << 40), ctypes.c_int(9)))
    assert driver.image == b"code"
    assert driver.launches == [(6, [7, 1, 1, 256, 1, 1, 0], 1 << 40, 9)]


@pytest.mark.parametrize("function", ["cuMemAlloc_v2", "cuCtxSynchronize", "cuMemsetD8Async"])
def test_failure_of_the_driver_is_an_error(function, gpu, driver):
    driver.failing = function
    with pytest.raises(PlatformError, match=f"use GPU with Tester: {function} .* error 719"):
        gpu.allocate(4)
        gpu.synchronize()


LARGE = [1, 32, 32, 32, 8]
WORKLOADS = {
    "more written": Workload.make(LARGE, [2, 2, 2, 8, 8], [1, 64, 64, 64, 8], 2),
    "more read": Workload.make(LARGE, [2, 2, 2, 1, 8], [1, 32, 32, 32, 1], 1),
    "hardly any": Workload.make([1, 2, 2, 2, 4], [2, 2, 2, 3, 4], [1, 4, 4, 4, 3], 2),
}


@pytest.fixture
def memory(gpu, driver):
    memory = Memory(gpu)
    driver.copied = driver.filled = driver.waits = 0
    return memory


def test_large_copy_and_fill_move_what_they_count(memory, driver):
    for run, size in memory.loads().values():
        driver.copied = driver.filled = 0
        run()
        assert 2 * driver.copied + driver.filled == size
    assert driver.waits == 2


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_move_moves_as_many_bytes_as_the_workload(workload, memory, driver):
    ((name, (run, size)),) = memory.move(workload).items()
    run()
    assert name == f"move {workload.id}"
    assert 2 * driver.copied + driver.filled == size
    assert driver.waits == 1
    assert size >= gpu_ceiling._LEAST_CALL
    # Half of one byte of input may be left over.
    passes = round(size / workload.bytes) or 1
    assert size == pytest.approx(workload.bytes * passes, rel=1e-3)
    written = driver.copied + driver.filled
    more_read = 2 * written_bytes(workload) < workload.bytes
    expected = workload.bytes / 2 if more_read else written_bytes(workload)
    assert written == pytest.approx(expected * passes, rel=1e-3)


def test_move_that_finds_no_room_is_left_out(driver):
    driver.free = 1 << 22
    assert Memory(Gpu(driver)).move(WORKLOADS["more written"]) == {}


def test_volumes_leave_most_of_the_memory_alone(driver):
    driver.free = 1 << 24
    Memory(Gpu(driver))
    assert [each.size for each in driver.memory.values()] == [1 << 22] * 2
