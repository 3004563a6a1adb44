"""Which memory does an operator work on?"""

import importlib
import types

import numpy as np
import pytest

import tvm_conv3dt
from tvm_conv3dt import errors
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.runtime import cuda_frameworks
from tvm_conv3dt.runtime.cuda_place import CudaPlace
from tvm_conv3dt.runtime.host_place import HostPlace
from tvm_conv3dt.runtime.place import place_for

functional = importlib.import_module("tvm_conv3dt.functional")
FILTERS = np.zeros(3, np.float32)


def test_bundle_for_cpus_works_in_their_memory():
    assert isinstance(place_for("llvm", FILTERS), HostPlace)


@pytest.mark.parametrize(
    ("on", "named", "device"),
    [(None, None, "cuda:0"), (2, None, "cuda:2"), (2, 1, "cuda:1"), (None, 3, "cuda:3")],
)
def test_bundle_for_gpus_works_on_the_one_that_is_named_or_has_the_filters(
    torch, on, named, device
):
    filters = FILTERS if on is None else torch.array(FILTERS, on)
    place = place_for("cuda", filters, named)
    assert isinstance(place, CudaPlace)
    assert str(place.device) == device


def test_bundle_for_cpus_has_no_gpu(bundle):
    filters = np.zeros(bundle.workloads["test/plain"].filters, np.float32)
    with pytest.raises(
        errors.DeviceError, match="make operator with gpu=0: the bundle is for CPUs"
    ):
        bundle.operator("test/plain", filters, gpu=0)


@pytest.mark.parametrize("name", ["torch", "cupy", "jax"])
def test_operator_for_the_cpu_refuses_arrays_on_a_gpu(bundle, request, name, exporter):
    framework = request.getfixturevalue(name)
    framework.Array = exporter  # whatever it is, its memory cannot be read here
    workload = bundle.workloads["test/plain"]
    operator = bundle.operator("test/plain", np.zeros(workload.filters, np.float32))
    x = framework.array(np.zeros(workload.input, np.float32))
    x.is_neg = lambda: False
    with pytest.raises(errors.ArrayError, match="failed to use array x"):
        operator(x)


class Bundle:
    """Holds one workload, for GPUs."""

    manifest = types.SimpleNamespace(platform=types.SimpleNamespace(kind="cuda"))

    def __init__(self, make, workload):
        self.make, self.workloads = make, {"test": workload}
        self.gpus = []

    def __contains__(self, workload):
        return workload in self.workloads.values()

    def operator(self, workload, filters, bias, *, gpu):
        self.gpus.append(gpu)
        return self.make(workload, filters, bias, gpu)[0]


@pytest.fixture
def loaded(make, workload, monkeypatch):
    bundle = Bundle(make, workload)
    module = importlib.import_module("tvm_conv3dt.runtime.bundle")
    monkeypatch.setattr(module, "loaded", lambda: [bundle])
    return bundle


def call(workload, x, filters, bias, **options):
    arguments = workload.output_shape, workload.strides, workload.padding
    return tvm_conv3dt.conv3d_transpose(x, filters, *arguments, bias=bias, **options)


@pytest.mark.parametrize("name", ["torch", "cupy"])
def test_function_takes_a_loaded_bundle_for_gpus(loaded, workload, gpu, request, name):
    framework = request.getfixturevalue(name)
    x, filters, bias = integer_data(workload, 1)
    expected = reference(workload, x, filters, bias)
    on_gpu = [framework.array(each.copy()) for each in (x, filters, bias)]
    y = call(workload, *on_gpu)
    gpu.drain(framework.owner.current)
    np.testing.assert_array_equal(y.values, expected)
    y = call(workload, on_gpu[0], filters, bias.tolist())
    gpu.drain(framework.owner.current)
    np.testing.assert_array_equal(y.values, expected)


def test_function_gives_jax_its_own(loaded, workload, jax):
    x, filters, bias = integer_data(workload, 1)
    y = call(workload, jax.array(x), jax.array(filters), bias)
    np.testing.assert_array_equal(y.values, reference(workload, x, filters, bias))


def test_function_gives_numpy_arrays_back_for_numpy_arrays(loaded, workload, torch):
    x, filters, bias = integer_data(workload, 1)
    expected = reference(workload, x, filters, bias)
    y = call(workload, x, torch.array(filters), bias)
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, expected)
    out = torch.array(np.full(expected.shape, np.nan, np.float32))
    assert call(workload, x, filters, bias, out=out) is out
    np.testing.assert_array_equal(out.values, expected)


def test_function_works_on_the_inputs_gpu(loaded, workload, torch, gpu):
    x, filters, bias = integer_data(workload, 1)
    call(workload, torch.array(x.copy(), 0), torch.array(filters, 1), bias)
    assert loaded.gpus == [0]


def test_function_without_a_bundle_for_gpus_says_how_to_build_one(bundle, workload, torch):
    x, filters, bias = integer_data(workload, 1)
    assert bundle.manifest.platform.kind == "llvm"
    with pytest.raises(errors.WorkloadNotFoundError) as raised:
        call(workload, torch.array(x), filters, bias)
    told = str(raised.value)
    assert "an array is on a GPU, and the loaded bundles for GPUs hold nothing" in told
    assert f"tvm-conv3dt build --workloads {workload.id} --device DEVICE" in told


def test_function_does_not_take_a_bundle_for_gpus_for_the_cpu(loaded, workload, monkeypatch):
    class Reached(Exception):
        pass

    def compiled(workload):
        raise Reached

    cache = importlib.import_module("tvm_conv3dt.compiler.cache")
    monkeypatch.setattr(cache, "bundle_for", compiled)
    x, filters, bias = integer_data(workload, 1)
    with pytest.raises(Reached):
        call(workload, x, filters, bias)


def test_function_refuses_other_dtypes_on_a_gpu(loaded, workload, torch):
    x, filters, bias = integer_data(workload, 1)
    with pytest.raises(errors.ArgumentTypeError, match=r"array input with dtype=int32"):
        call(workload, torch.array(x.astype(np.int32)), filters, bias)
    with pytest.raises(errors.ArgumentTypeError, match="must have the same dtype"):
        call(workload, torch.array(x), filters.astype(np.float64), bias)


@pytest.mark.oracle
def test_pytorch_has_what_is_asked_of_it():
    torch = pytest.importorskip("torch")
    assert callable(torch.cuda.current_stream)
    assert isinstance(torch.cuda.device, type)
    tensor = torch.zeros((2, 3), dtype=torch.bfloat16)[:, 1:]
    framework = cuda_frameworks.framework_of(tensor)
    assert isinstance(framework, cuda_frameworks.PyTorch)
    found = framework.tensor("x", tensor, cuda_frameworks.NO_WAIT, False)
    assert found.data_ptr() == tensor.data_ptr()
    assert (str(found.dtype), found.strides) == ("bfloat16", (3, 1))
    copied = framework.compact("x", tensor, None)
    assert copied.is_contiguous()
    framework.copy(tensor, copied + 1, None)
    assert (tensor == 1).all()
    assert isinstance(framework.given(tensor, tensor), torch.Tensor)
