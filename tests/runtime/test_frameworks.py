"""Do other frameworks' arrays come in and results go back over the same memory, and is the rest refused?"""

import gc
import re
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tvm_conv3dt import errors, memory
from tvm_conv3dt.runtime.frameworks import conversion, like, mark_changed, to_numpy

DTYPES = ("float32", "float64", "float16", "bfloat16")


@dataclass(frozen=True)
class Framework:
    kind: type
    make: Callable[[np.ndarray], Any]
    address: Callable[[Any], int]


def torch() -> Framework:
    torch = pytest.importorskip("torch")

    def make(array):
        tensor = torch.from_numpy(array.astype(np.float64))
        return tensor.to(getattr(torch, array.dtype.name))

    return Framework(torch.Tensor, make, lambda tensor: tensor.data_ptr())


def tensorflow() -> Framework:
    tf = pytest.importorskip("tensorflow")
    return Framework(tf.Tensor, tf.constant, lambda tensor: address_of(np.asarray(tensor)))


def jax() -> Framework:
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    return Framework(jax.Array, jax.numpy.array, lambda array: array.unsafe_buffer_pointer())


FRAMEWORKS = {"torch": torch, "tensorflow": tensorflow, "jax": jax}
MARKED = [
    pytest.param("torch", marks=pytest.mark.peers),
    pytest.param("tensorflow", marks=pytest.mark.oracle),
    pytest.param("jax", marks=pytest.mark.peers),
]


def address_of(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def dtype_of(name: str) -> np.dtype:
    if name == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(name)


class Foreign:
    """An exporter of DLPack that is of no framework."""

    def __init__(self, owner: Any, device: tuple[int, int] | None = None) -> None:
        self.owner = owner
        self.device = device

    def __dlpack__(self, **options):
        return self.owner.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.device or self.owner.__dlpack_device__()


@pytest.fixture(params=MARKED)
def framework(request):
    return FRAMEWORKS[request.param]()


@pytest.fixture(params=DTYPES)
def values(request):
    """Small integers in memory that starts as results do."""
    array = memory.aligned_empty((2, 3, 4), dtype_of(request.param))
    array[...] = np.arange(24).reshape(2, 3, 4)
    return array


def test_values_come_in_where_they_lie(framework, values):
    tensor = framework.make(values)
    array = to_numpy("x", tensor)
    assert type(array) is np.ndarray
    assert (array.shape, array.dtype) == (values.shape, values.dtype)
    assert np.array_equal(array, values)
    assert address_of(array) == framework.address(tensor)


def test_memory_lives_as_long_as_the_array(framework, values):
    arrays = [to_numpy("x", framework.make(values + values.dtype.type(n))) for n in range(20)]
    gc.collect()
    assert all(np.array_equal(a, values + values.dtype.type(n)) for n, a in enumerate(arrays))


def test_result_goes_back_where_it_lies(framework, values):
    given = framework.make(values)
    result = like(given, values)
    assert isinstance(result, framework.kind)
    assert result.dtype == given.dtype
    assert tuple(result.shape) == values.shape
    assert framework.address(result) == address_of(values)
    assert np.array_equal(to_numpy("result", result), values)


def test_memory_lives_as_long_as_the_result(framework, values):
    reserve, given = memory.Reserve(), framework.make(values)
    shape = (64, *values.shape[1:], 1024)
    results = []
    for number in range(4):
        array = reserve.empty(shape, values.dtype)
        array[...] = number
        results.append(like(given, array))
        del array
    gc.collect()
    for number, result in enumerate(results):
        assert np.all(to_numpy("result", result) == values.dtype.type(number))


def test_numpy_stays_numpy(values):
    assert to_numpy("x", values) is values
    assert like(values, values) is values


def test_subclass_is_plain_inside():
    array = np.ones(3).view(type("Sub", (np.ndarray,), {}))
    assert type(to_numpy("x", array)) is np.ndarray
    assert address_of(to_numpy("x", array)) == address_of(array)


def test_masked_elements_are_refused():
    masked = np.ma.masked_array(np.ones(3), [False, True, False])
    with pytest.raises(errors.ArrayError, match=re.escape("x.filled(0)")):
        to_numpy("x", masked)
    bare = np.ma.masked_array(np.ones(3), [False] * 3)
    assert address_of(to_numpy("x", bare)) == address_of(bare.data)
    with pytest.raises(errors.ArrayError, match=r"write to array out with MaskedArray.*out\.data"):
        to_numpy("out", bare, in_place=True)


class Making:
    def __array__(self, dtype=None, copy=None):
        return np.arange(3.0)


def test_array_by_numpys_protocol_comes_in_but_is_not_written_to():
    assert to_numpy("x", Making()).tolist() == [0, 1, 2]
    with pytest.raises(errors.ArgumentTypeError, match=r"or export DLPack$"):
        to_numpy("out", Making(), in_place=True)


@pytest.mark.parametrize("value", [None, 1.5, "text", b"bytes", [1.0], {}, object(), float])
def test_what_is_no_array_is_refused(value):
    with pytest.raises(errors.ArgumentTypeError, match=r"failed to use array x with .*must be a"):
        to_numpy("x", value)


def test_class_of_arrays_is_refused():
    with pytest.raises(errors.ArrayError, match="failed to use array x with type"):
        to_numpy("x", np.ndarray)


@pytest.mark.parametrize("device", [2, 4, 7, 8, 10, 14])
def test_memory_of_another_device_is_refused(device):
    rule = rf"another device's \(DLPack's kind {device}\); copy it to the CPU's first"
    with pytest.raises(errors.ArrayError, match=rule):
        to_numpy("x", Foreign(np.ones(3), (device, 0)))


@pytest.mark.parametrize("device", [3, 11, 13])
def test_memory_that_the_cpu_shares_is_taken(device):
    array = np.ones(3)

    class Shared(Foreign):
        def __dlpack__(self, **options):
            options.pop("dl_device", None)
            return self.owner.__dlpack__(**options)

    assert address_of(to_numpy("x", Shared(array, (device, 0)))) == address_of(array)


def test_exporter_without_a_framework_gets_numpy():
    array = np.ones(3)
    assert like(Foreign(array), array) is array


def test_exporter_with_a_namespace_gets_its_kind():
    foreign = Foreign(np.ones(3))
    foreign.__array_namespace__ = lambda: types.SimpleNamespace(from_dlpack=Foreign)
    result = np.ones(3)
    assert like(foreign, result).owner is result


@pytest.mark.peers
@pytest.mark.parametrize("part", [np.s_[:], np.s_[1:, :, 1::2], np.s_[0, 2], np.s_[..., 3]])
def test_bfloat16_comes_by_any_exporter(part):
    torch = pytest.importorskip("torch")
    dtype = dtype_of("bfloat16")
    tensor = torch.arange(24).reshape(2, 3, 4).to(torch.bfloat16)[part]
    array = to_numpy("x", Foreign(tensor))
    assert array.dtype == dtype
    assert np.array_equal(array, np.arange(24).reshape(2, 3, 4).astype(dtype)[part])
    assert address_of(array) == tensor.data_ptr()
    assert not array.flags.writeable


@pytest.mark.peers
@pytest.mark.parametrize("wrap", [Foreign, lambda tensor: tensor])
def test_bfloat16_needs_ml_dtypes(monkeypatch, wrap):
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(errors.UnsupportedError, match="pip install ml_dtypes"):
        to_numpy("x", wrap(torch.ones(3, dtype=torch.bfloat16)))


LAYOUTS = {
    "channels last": lambda torch, x: x.to(memory_format=torch.channels_last_3d),
    "permuted": lambda torch, x: x.permute(0, 4, 1, 2, 3),
    "expanded": lambda torch, x: x[:1, :, :1].expand(2, -1, 3, -1, -1),
    "sliced": lambda torch, x: x[:, 1:, ::2, :, 1:],
    "parameter": lambda torch, x: torch.nn.Parameter(x, requires_grad=False),
    "subclass": lambda torch, x: x.as_subclass(type("Sub", (torch.Tensor,), {})),
    "inference": lambda torch, x: torch.inference_mode()(x.clone)(),
}


def fake(torch):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.zeros(2, 2)


WITHOUT_VALUES = {
    "meta": (lambda torch: torch.zeros(2, device="meta"), "meta"),
    "sparse": (lambda torch: torch.eye(2).to_sparse(), r"Tensor\.to_dense\(\)"),
    "conjugate": (lambda torch: torch.ones(2, dtype=torch.complex64).conj(), "resolve_conj"),
    "without memory": (lambda torch: torch._efficientzerotensor((2, 2)), "ZeroTensor"),
    "fake": (fake, "subclasses"),
    "8 bits": (lambda torch: torch.ones(2).to(torch.float8_e4m3fn), "Float8"),
}


@pytest.mark.peers
class TestTorch:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_layout_comes_in_where_it_lies(self, torch, layout, dtype):
        x = torch.arange(240).reshape(2, 3, 4, 5, 2).to(getattr(torch, dtype))
        tensor = LAYOUTS[layout](torch, x)
        array = to_numpy("x", tensor)
        assert array.dtype == dtype_of(dtype)
        assert np.array_equal(array.astype(np.float64), tensor.double().numpy())
        assert address_of(array) == tensor.data_ptr()

    def test_negative_bit_counts(self, torch):
        tensor = torch.complex(torch.zeros(3), torch.tensor([1.0, 2.0, 3.0])).conj().imag
        assert tensor.is_neg()
        assert to_numpy("x", tensor).tolist() == [-1, -2, -3]
        with pytest.raises(errors.ArrayError, match="negative bit"):
            to_numpy("out", tensor, in_place=True)

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_recorded_gradients_are_refused(self, torch, dtype):
        tensor = torch.ones(3, dtype=getattr(torch, dtype), requires_grad=True)
        for value in (tensor, torch.nn.Parameter(tensor.detach()), tensor * 2):
            with pytest.raises(errors.ArrayError, match=r"no gradient passes.*pass w.detach\(\)"):
                to_numpy("w", value)

    def test_unrecorded_gradients_are_not(self, torch):
        tensor = torch.ones(3, requires_grad=True)
        with torch.no_grad():
            assert address_of(to_numpy("w", tensor)) == tensor.data_ptr()
        assert address_of(to_numpy("w", tensor.detach())) == tensor.data_ptr()

    @pytest.mark.parametrize("name", WITHOUT_VALUES)
    def test_tensor_without_values_is_refused(self, torch, name):
        make, reason = WITHOUT_VALUES[name]
        with pytest.raises(errors.ArrayError, match=f"array x with .*cannot be read.*{reason}"):
            to_numpy("x", make(torch))

    def test_batched_tensor_is_refused(self, torch):
        with pytest.raises(errors.ArrayError, match="failed to use array x"):
            torch.vmap(lambda x: to_numpy("x", x))(torch.ones(2, 3))

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_tensor_is_written_to_in_place(self, torch, dtype):
        dtype_of(dtype)
        tensor = torch.zeros(3, dtype=getattr(torch, dtype))
        to_numpy("out", tensor, in_place=True)[...] = 7
        assert tensor.tolist() == [7, 7, 7]

    def test_gradient_that_a_write_makes_wrong_is_refused(self, torch):
        weight, out = torch.ones(3, requires_grad=True), torch.ones(3)
        loss = (weight * out).sum()
        to_numpy("out", out, in_place=True)[...] = 7
        mark_changed(out)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()

    def test_inference_tensor_has_no_gradient_to_refuse(self, torch):
        with torch.inference_mode():
            mark_changed(torch.ones(3))

    def test_conversion_is_torchs(self, torch):
        told = conversion("x", torch.ones(2), np.dtype(np.float32))
        assert told == "convert it with: x.to(torch.float32)"


@pytest.mark.oracle
class TestTensorFlow:
    @pytest.fixture
    def tf(self):
        return pytest.importorskip("tensorflow")

    def test_variable_comes_in_and_a_tensor_goes_back(self, tf):
        variable, result = tf.Variable([1.0, 2.0]), memory.aligned_empty((2,), np.dtype("f4"))
        assert to_numpy("x", variable).tolist() == [1, 2]
        result[...] = 3
        assert isinstance(like(variable, result), tf.Tensor)
        assert like(variable, result).numpy().tolist() == [3, 3]

    def test_symbolic_tensor_is_refused(self, tf):
        @tf.function(autograph=False)  # it wraps errors in its own
        def function(x):
            to_numpy("x", x)

        with pytest.raises(errors.ArrayError, match=r"outside tf.function, or .*numpy_function"):
            function(tf.ones(3))

    def test_operator_may_be_a_numpy_function(self, tf):
        @tf.function
        def function(x):
            return tf.numpy_function(lambda x: to_numpy("x", x) + 1, [x], tf.float32)

        assert function(tf.ones(3)).numpy().tolist() == [2, 2, 2]

    def test_keras_input_is_refused(self, tf):
        with pytest.raises(errors.ArrayError, match="symbolic"):
            to_numpy("x", tf.keras.Input((3,)))

    def test_sparse_and_ragged_are_refused(self, tf):
        for value in (tf.sparse.eye(3), tf.ragged.constant([[1.0], [2.0, 3.0]])):
            with pytest.raises(errors.ArgumentTypeError, match="must be a NumPy array"):
                to_numpy("x", value)

    def test_tensor_is_not_written_to(self, tf):
        for value in (tf.ones(3), tf.Variable([1.0])):
            with pytest.raises(errors.ArrayError, match=r"write to array out with .*never change"):
                to_numpy("out", value, in_place=True)

    def test_conversion_is_tensorflows(self, tf):
        told = conversion("x", tf.ones(2), np.dtype(np.float32))
        assert told == "convert it with: tf.cast(x, tf.float32)"


@pytest.mark.peers
class TestJax:
    @pytest.fixture
    def jax(self):
        return pytest.importorskip("jax")

    @pytest.mark.parametrize("transform", ["jit", "vmap", "grad"])
    def test_tracer_is_refused(self, jax, transform):
        traced = getattr(jax, transform)(lambda x: to_numpy("x", x).sum())
        with pytest.raises(errors.ArrayError, match=r"traced.*jax\.pure_callback"):
            traced(jax.numpy.ones((3, 3)))

    def test_deleted_array_is_refused(self, jax):
        array = jax.numpy.ones(3) + 1
        array.delete()
        with pytest.raises(errors.ArrayError, match="deleted"):
            to_numpy("x", array)

    def test_array_is_not_written_to(self, jax):
        with pytest.raises(errors.ArrayError, match="never change"):
            to_numpy("out", jax.numpy.ones(3), in_place=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_conversion_is_numpys(dtype):
    wanted = {"float16": "'float16'", "bfloat16": "ml_dtypes.bfloat16"}[dtype]
    told = conversion("x", np.ones(2), dtype_of(dtype))
    assert told == f"convert it with: x.astype({wanted})"


def test_conversion_of_an_unknown_kind_is_not_told():
    assert conversion("x", Foreign(np.ones(2)), np.dtype("f4")) == ""
