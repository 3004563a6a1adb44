"""NVIDIA's driver: what it is asked, and the error of each way not to have a GPU. It is a fake one."""

import pytest

from tvm_conv3dt import cuda_driver
from tvm_conv3dt.cuda_driver import CudaDriver, CudaGpu
from tvm_conv3dt.errors import PlatformError

NAMES = {10: "NVIDIA H100 80GB HBM3", 11: "NVIDIA T4"}
CAPABILITIES = {10: (9, 0), 11: (7, 5)}


class FakeDriver:
    """Answers as libcuda does: through pointers, with 0 for success."""

    def __init__(self, version=13000, gpus=(10, 11), failing=None, code=999):
        self.version = version
        self.gpus = gpus
        self.failing = failing
        self.code = code
        self.ready = False

    def _result(self, function):
        if function == self.failing:
            return self.code
        return 0 if self.ready or function in ("cuInit", "cuDriverGetVersion") else 3

    def cuInit(self, flags):
        assert flags == 0
        self.ready = self.failing != "cuInit"
        return self._result("cuInit")

    def cuDriverGetVersion(self, version):
        version._obj.value = self.version
        return self._result("cuDriverGetVersion")

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.gpus)
        return self._result("cuDeviceGetCount")

    def cuDeviceGet(self, gpu, index):
        gpu._obj.value = self.gpus[index]
        return self._result("cuDeviceGet")

    def cuDeviceGetName(self, name, size, gpu):
        assert size == len(name)
        name.value = NAMES[gpu].encode()
        return self._result("cuDeviceGetName")

    def cuDeviceGetAttribute(self, value, attribute, gpu):
        value._obj.value = dict(zip((75, 76), CAPABILITIES[gpu], strict=True))[attribute]
        return self._result("cuDeviceGetAttribute")

    def cuGetErrorString(self, code, text):
        if code == 804:
            return 1
        text._obj.value = b"unknown error"
        return 0


@pytest.fixture
def driver(monkeypatch):
    """A function that makes this a machine with a fake driver."""
    return lambda **values: monkeypatch.setattr(cuda_driver, "_open", lambda: FakeDriver(**values))


def test_gpus_are_told_in_the_drivers_order(driver):
    driver()
    first, second = (CudaGpu(NAMES[each], CAPABILITIES[each]) for each in (10, 11))
    assert cuda_driver.find() == CudaDriver((13, 0), (first, second))


@pytest.mark.parametrize(("capability", "arch"), [((7, 5), "sm_75"), ((12, 0), "sm_120")])
def test_architecture_is_named_as_compilers_do(capability, arch):
    assert CudaGpu("Tester", capability).arch == arch


@pytest.mark.parametrize(
    ("version", "cuda"), [(13000, (13, 0)), (12080, (12, 8)), (13010, (13, 1)), (11040, (11, 4))]
)
def test_version_of_cuda_is_read_as_it_is_coded(driver, version, cuda):
    driver(version=version)
    assert cuda_driver.find().cuda == cuda


def test_machine_without_a_driver_is_told_so(monkeypatch):
    monkeypatch.setattr(cuda_driver, "_LIBRARY", "libno_such_driver.so.1")
    with pytest.raises(PlatformError) as caught:
        cuda_driver.find()
    assert str(caught.value).startswith(
        "failed to find GPU with libno_such_driver.so.1: there is no NVIDIA driver on this machine "
        "(libno_such_driver.so.1: cannot open shared object file"
    )
    assert str(caught.value).endswith("; install NVIDIA's driver, or take a bundle for CPUs")


def test_library_that_is_no_driver_is_refused(monkeypatch):
    monkeypatch.setattr(cuda_driver, "_LIBRARY", "libc.so.6")
    with pytest.raises(PlatformError, match=r"it is not NVIDIA's driver: .*cuDriverGetVersion"):
        cuda_driver.find()


@pytest.mark.parametrize("how", ["no gpus", "cuInit", "cuDeviceGetCount"])
def test_driver_that_shows_no_gpu_is_told_so(driver, monkeypatch, how):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver(**({"gpus": ()} if how == "no gpus" else {"failing": how, "code": 100}))
    with pytest.raises(PlatformError, match=r"shows this process no GPU; see nvidia-smi"):
        cuda_driver.find()


def test_variable_that_hides_gpus_is_named(driver, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    driver(failing="cuInit", code=100)
    with pytest.raises(PlatformError, match=r"no GPU \(CUDA_VISIBLE_DEVICES is ''\)"):
        cuda_driver.find()


FUNCTIONS = ("cuDriverGetVersion", "cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName")


@pytest.mark.parametrize("function", [*FUNCTIONS, "cuDeviceGetAttribute"])
def test_failure_of_the_driver_is_told_in_its_words(driver, function):
    driver(failing=function)
    rule = rf"{function} of NVIDIA's driver reports unknown error \(error 999\)"
    with pytest.raises(PlatformError, match=rf"failed to find GPU .*: {rule}"):
        cuda_driver.find()


def test_failure_that_the_driver_has_no_words_for_has_its_number(driver):
    driver(failing="cuInit", code=804)
    with pytest.raises(PlatformError, match=r"an error without a name \(error 804\)"):
        cuda_driver.find()
