"""Does an operator on a GPU use arrays where they lie, on the caller's stream, and refuse what it cannot use?"""

import gc

import numpy as np
import pytest
import tvm_ffi

from tvm_conv3dt import errors
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.runtime import cuda_memory
from tvm_conv3dt.spec import Workload

FRAMEWORKS = ("torch", "cupy")


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def made(make, workload):
    """Operator, its code, its input and the right result."""
    x, filters, bias = integer_data(workload, 1)
    operator, code = make(workload, filters, bias)
    return operator, code, x, reference(workload, x, filters, bias).astype(np.float32)


def spread(values):
    """The same values, not C-contiguous."""
    return np.ascontiguousarray(values.T).T


def moved(values, offset):
    """The same values at an address of another alignment."""
    memory = np.zeros(values.nbytes + 128, np.uint8)
    start = -memory.__array_interface__["data"][0] % 64 + offset
    result = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    result[...] = values
    return result


def undefined(shape, dtype=np.float32):
    return moved(np.full(shape, np.nan, dtype), 0)


# Arrays of the frameworks that have streams.


def test_result_is_of_the_inputs_framework(made, framework, gpu):
    operator, _, x, expected = made
    y = operator(framework.array(moved(x, 0)))
    assert type(y) is type(framework.array(x))
    gpu.drain(framework.owner.current)
    np.testing.assert_array_equal(y.values, expected)


def test_arrays_are_used_in_place(made, framework):
    operator, code, x, expected = made
    source, out = framework.array(moved(x, 0)), framework.array(undefined(expected.shape))
    assert operator(source, out=out) is out
    assert code.calls == [(source.address, out.address, framework.owner.current)]
    y = operator(source)
    assert code.calls[1:] == [(source.address, y.address, framework.owner.current)]


def test_call_is_queued_on_the_current_stream_and_not_waited_for(made, framework, gpu):
    operator, _, x, expected = made
    source, out = framework.array(moved(x, 0)), framework.array(undefined(expected.shape))
    framework.owner.current = 0x1234
    operator(source, out=out)
    assert gpu.launched == [0x1234]
    assert gpu.waits == []
    assert source.exports == out.exports == [-1]
    assert np.isnan(out.values).all()
    gpu.drain(0x1234)
    np.testing.assert_array_equal(out.values, expected)


def test_default_stream_is_used_where_it_is_the_current_one(made, framework, gpu):
    operator, code, x, _ = made
    framework.owner.current = 0
    operator(framework.array(moved(x, 0)))
    assert [stream for _, _, stream in code.calls] == [0]
    assert gpu.waits == []


def test_streams_and_current_gpu_are_what_they_were(made, framework):
    operator, _, x, _ = made
    device = tvm_ffi.device("ext_dev", 0)
    with tvm_ffi.use_raw_stream(device, 0x99):
        operator(framework.array(moved(x, 0)))
        assert tvm_ffi.get_raw_stream(device) == 0x99
        with pytest.raises(errors.ArrayError):
            operator(framework.array(moved(x[:1], 0)))
        assert tvm_ffi.get_raw_stream(device) == 0x99
    devices = framework.owner.devices
    assert devices.count(0) == devices.count(None) > 0


def test_earlier_work_of_the_caller_comes_first(made, framework, gpu):
    operator, _, x, expected = made
    source = framework.array(undefined(x.shape))
    gpu.launch(framework.owner.current, lambda: np.copyto(source.values, x))
    y = operator(source)
    gpu.drain(framework.owner.current)
    np.testing.assert_array_equal(y.values, expected)


@pytest.mark.parametrize("change", [spread, lambda x: moved(x, 4)], ids=["strides", "offset"])
def test_input_that_kernels_cannot_take_is_copied_by_its_framework(made, framework, gpu, change):
    operator, code, x, expected = made
    source = framework.array(change(x))
    y = operator(source)
    assert code.calls[0][0] != source.address
    assert gpu.launched == [framework.owner.current] * 2
    assert gpu.waits == []
    gpu.drain(framework.owner.current)
    np.testing.assert_array_equal(y.values, expected)


@pytest.mark.parametrize("change", [spread, lambda x: moved(x, 4)], ids=["strides", "offset"])
def test_output_that_kernels_cannot_write_is_filled_by_its_framework(made, framework, gpu, change):
    operator, code, x, expected = made
    out = framework.array(change(undefined(expected.shape)))
    assert operator(framework.array(moved(x, 0)), out=out) is out
    assert code.calls[0][1] != out.address
    assert gpu.waits == []
    gpu.drain(framework.owner.current)
    np.testing.assert_array_equal(out.values, expected)


def test_pytorch_is_told_that_out_changed(made, torch):
    operator, _, x, expected = made
    out = torch.array(undefined(expected.shape))
    operator(torch.array(moved(x, 0)), out=out)
    assert out.changes == 1


def test_negative_bit_is_resolved(made, torch, gpu):
    operator, _, x, expected = made
    source = torch.array(moved(-x, 0))
    source.negative = True
    y = operator(source)
    gpu.drain(torch.owner.current)
    np.testing.assert_array_equal(y.values, expected)
    out = torch.array(undefined(expected.shape))
    out.negative = True
    with pytest.raises(errors.ArrayError, match="its negative bit is set"):
        operator(source, out=out)


def test_gradients_are_refused(made, torch):
    operator, code, x, _ = made
    source = torch.array(moved(x, 0))
    source.requires_grad = True
    with pytest.raises(errors.ArrayError, match=r"no gradient passes.*x\.detach\(\)"):
        operator(source)
    torch.is_grad_enabled = lambda: False
    operator(source)
    assert len(code.calls) == 1


def test_tensor_without_memory_is_refused(made, torch):
    operator, _, x, _ = made

    class Fake(torch.Tensor):
        def data_ptr(self):
            raise RuntimeError("no data pointer of a FakeTensor")

    with pytest.raises(errors.ArrayError, match=r"its values cannot be read .*FakeTensor"):
        operator(Fake(None, x))


def test_output_of_another_framework_is_waited_for(made, torch, cupy, gpu):
    operator, code, x, expected = made
    out = cupy.array(undefined(expected.shape))
    # What CuPy has still to do with it must come before.
    gpu.launch(cupy.owner.current, lambda: out.values.fill(7))
    operator(torch.array(moved(x, 0)), out=out)
    assert [stream for _, _, stream in code.calls] == [torch.owner.current]
    assert out.exports == [torch.owner.current]
    assert gpu.waits == [torch.owner.current]
    np.testing.assert_array_equal(out.values, expected)
    assert not gpu.queues[cupy.owner.current]


def test_output_of_another_framework_and_other_strides(made, torch, cupy, gpu):
    operator, _, x, expected = made
    out = cupy.array(spread(undefined(expected.shape)))
    empty = cupy.empty

    def used_before(shape, dtype):
        # CuPy gives memory out whose last use is still queued on its stream.
        result = empty(shape, dtype)
        gpu.launch(cupy.owner.current, lambda: result.values.fill(7))
        return result

    cupy.empty = used_before
    operator(torch.array(moved(x, 0)), out=out)
    gpu.drain(cupy.owner.current)
    np.testing.assert_array_equal(out.values, expected)


# JAX, tvm-ffi and others.


def test_jax_is_waited_for_and_gets_a_complete_result(made, jax, gpu):
    operator, code, x, expected = made
    source = jax.array(moved(x, 0))
    y = operator(source)
    assert source.ready
    assert code.calls == [(source.address, y.tensor.data_ptr(), 0)]
    assert gpu.waits == [0]
    assert type(y) is jax.Array
    np.testing.assert_array_equal(y.values, expected)
    other = operator(source)
    assert other.address != y.address


def test_jax_output_is_refused(made, jax):
    operator, code, x, expected = made
    with pytest.raises(errors.ArrayError, match="jax's tensors never change; leave it out"):
        operator(jax.array(moved(x, 0)), out=jax.array(undefined(expected.shape)))
    assert not code.calls


def test_other_exporter_is_used_in_place_and_waited_for(made, exporter, gpu):
    operator, code, x, expected = made
    source = exporter(gpu, moved(x, 0))
    y = operator(source)
    assert source.exports == [1]  # the default stream, as DLPack has it
    assert code.calls == [(source.address, y.data_ptr(), 0)]
    assert gpu.waits == [0]
    np.testing.assert_array_equal(operator.download(y), expected)


def test_other_exporters_namespace_makes_the_result(made, exporter, gpu):
    operator, _, x, _ = made

    class Named(exporter):
        def __array_namespace__(self):
            return self

        def from_dlpack(self, tensor):
            return "made", tensor

    word, tensor = operator(Named(gpu, moved(x, 0)))
    assert word == "made"
    assert isinstance(tensor, tvm_ffi.Tensor)


def test_other_exporters_stream_is_waited_for(made, exporter, gpu):
    operator, _, x, expected = made
    source = exporter(gpu, undefined(x.shape))
    source.stream = 0x5000
    gpu.launch(0x5000, lambda: np.copyto(source.values, x))
    np.testing.assert_array_equal(operator.download(operator(source)), expected)


def test_other_exporters_output_must_say_that_it_is_writable(made, exporter, versioned, gpu):
    operator, code, x, expected = made
    source = exporter(gpu, moved(x, 0))
    out = versioned(gpu, undefined(expected.shape))
    assert operator(source, out=out) is out
    assert code.calls[0][1] == out.address
    np.testing.assert_array_equal(out.values, expected)
    out.read_only = True
    for unfit in (out, exporter(gpu, undefined(expected.shape))):
        with pytest.raises(errors.ArrayError, match=r"write to array out .*it must be writable"):
            operator(source, out=unfit)


@pytest.mark.parametrize("change", [spread, lambda x: moved(x, 4)], ids=["strides", "offset"])
def test_other_exporters_must_give_what_kernels_take(made, exporter, versioned, gpu, change):
    operator, _, x, expected = made
    rule = "must be C-contiguous, and start at a multiple of 16 bytes"
    with pytest.raises(errors.ArrayError, match=f"use array x .*{rule}"):
        operator(exporter(gpu, change(x)))
    with pytest.raises(errors.ArrayError, match=f"write to array out .*{rule}"):
        operator(exporter(gpu, moved(x, 0)), out=versioned(gpu, change(undefined(expected.shape))))


def test_tensors_of_tvm_ffi_need_no_framework(made, gpu):
    operator, code, x, expected = made
    source, out = operator.upload(x), operator.empty()
    with tvm_ffi.use_raw_stream(tvm_ffi.device("ext_dev", 0), 0x77):
        assert operator(source, out=out) is out
        assert code.calls == [(source.data_ptr(), out.data_ptr(), 0x77)]
        assert gpu.waits == []
        operator.synchronize()
        assert gpu.waits == [0x77]
    np.testing.assert_array_equal(operator.download(out), expected)
    assert isinstance(operator(source), tvm_ffi.Tensor)


# Arrays in the CPU's memory.


def test_numpy_arrays_are_copied_there_and_back(made, gpu):
    operator, _, x, expected = made
    y = operator(x)
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, expected)
    out = np.full_like(expected, np.nan)
    assert operator(x, out=out) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("change", [spread, lambda x: moved(x, 1)], ids=["strides", "offset"])
def test_numpy_arrays_may_have_any_layout(made, change):
    operator, _, x, expected = made
    out = change(np.full_like(expected, np.nan))
    operator(change(x), out=out)
    np.testing.assert_array_equal(out, expected)


def test_numpy_input_and_output_on_the_gpu(made, framework, gpu):
    operator, code, x, expected = made
    out = framework.array(undefined(expected.shape))
    assert operator(x, out=out) is out
    assert code.calls[0][1:] == (out.address, framework.owner.current)
    np.testing.assert_array_equal(out.values, expected)


def test_input_on_the_gpu_and_numpy_output(made, framework):
    operator, code, x, expected = made
    source, out = framework.array(moved(x, 0)), np.full_like(expected, np.nan)
    assert operator(source, out=out) is out
    assert code.calls[0][0] == source.address
    np.testing.assert_array_equal(out, expected)


def test_verify_needs_numpy_only(make, workload):
    from tvm_conv3dt.measure.verify import verify

    def run(x, filters, bias, out):
        make(workload, filters, bias)[0](x, out=out)

    assert verify(workload, run).passed


# What is the same for all.


def whole_arrays(torch, cupy, jax, exporter, gpu, operator):
    return {
        "torch": torch.array,
        "cupy": cupy.array,
        "jax": jax.array,
        "other": lambda values: exporter(gpu, values),
        "tvm_ffi": operator.upload,
        "numpy": lambda values: values,
    }


def values_of(y, operator, gpu):
    for stream in list(gpu.queues):
        gpu.drain(stream)
    return operator.download(y) if isinstance(y, tvm_ffi.Tensor) else getattr(y, "values", y)


@pytest.mark.parametrize("kind", ["torch", "cupy", "jax", "other", "tvm_ffi", "numpy"])
@pytest.mark.parametrize("count", [1, 3])
def test_batch_may_be_a_multiple(made, torch, cupy, jax, exporter, gpu, kind, count):
    operator, code, x, expected = made
    array = whole_arrays(torch, cupy, jax, exporter, gpu, operator)[kind]
    source = array(moved(np.concatenate([x] * count), 0))
    y = operator(source)
    found = values_of(y, operator, gpu)
    np.testing.assert_array_equal(found, np.concatenate([expected] * count))
    steps = np.diff([each[0] for each in code.calls])
    assert (steps == x.nbytes).all()
    assert len(code.calls) == count


@pytest.mark.parametrize("kind", ["torch", "other", "numpy"])
def test_batches_that_lie_at_odd_addresses(make, torch, cupy, jax, exporter, gpu, kind):
    workload = Workload.make([1, 1, 1, 3, 3], [3, 3, 3, 5, 3], [1, 1, 1, 3, 5], 1)
    x, filters, _ = integer_data(workload, 3)
    operator, _ = make(workload, filters)
    array = whole_arrays(torch, cupy, jax, exporter, gpu, operator)[kind]
    y = operator(array(moved(np.concatenate([x, -x, x]), 0)))
    once = [reference(workload, each, filters) for each in (x, -x, x)]
    np.testing.assert_array_equal(values_of(y, operator, gpu), np.concatenate(once))


@pytest.mark.parametrize("kind", ["torch", "cupy", "jax", "other", "tvm_ffi", "numpy"])
@pytest.mark.parametrize("count", [1, 2])
def test_filters_that_are_not_finite_take_the_reference(
    make, workload, torch, cupy, jax, exporter, gpu, kind, count
):
    x, filters, bias = integer_data(workload, 1)
    filters[1, 1, 1, 2, 0], filters[0, 0, 0, 3, 1] = np.inf, np.nan
    operator, code = make(workload, filters, bias)
    array = whole_arrays(torch, cupy, jax, exporter, gpu, operator)[kind]
    y = operator(array(moved(np.concatenate([x] * count), 0)))
    assert not code.calls
    once = reference(workload, x, filters, bias).astype(np.float32)
    np.testing.assert_array_equal(values_of(y, operator, gpu), np.concatenate([once] * count))


@pytest.mark.parametrize("on_gpu", [True, False])
def test_reference_waits_for_what_is_under_way(make, workload, torch, gpu, on_gpu):
    x, filters, bias = integer_data(workload, 1)
    filters[1, 1, 1, 2, 0] = np.inf
    operator, _ = make(workload, filters, bias)
    expected = reference(workload, x, filters, bias).astype(np.float32)
    source, out = torch.array(undefined(x.shape)), torch.array(undefined(expected.shape))
    gpu.launch(torch.owner.current, lambda: np.copyto(source.values, x))
    gpu.launch(torch.owner.current, lambda: out.values.fill(7))
    operator(source if on_gpu else x, out=out)
    values_of(out, operator, gpu)
    np.testing.assert_array_equal(out.values, expected)


def test_queued_calls_keep_the_filters_that_they_began_with(make, workload, torch, gpu):
    x, filters, bias = integer_data(workload, 1)
    operator, _ = make(workload, filters, bias)
    source = torch.array(moved(x, 0))
    first = operator(source)
    operator.set_filters(-filters, 2 * bias)
    second = operator(source)
    gpu.drain(torch.owner.current)
    np.testing.assert_array_equal(first.values, reference(workload, x, filters, bias))
    np.testing.assert_array_equal(second.values, reference(workload, x, -filters, 2 * bias))


def test_filters_are_packed_when_set_filters_returns(make, workload, gpu):
    _, filters, bias = integer_data(workload, 1)
    operator, _ = make(workload, filters, bias)
    operator.set_filters(filters, bias)
    assert gpu.launched == gpu.waits == [0]


def test_former_filters_go_when_the_last_call_is_done(make, workload, torch, gpu):
    x, filters, bias = integer_data(workload, 1)
    operator, code = make(workload, filters, bias)
    uses = tvm_ffi.get_global_func("testing.object_use_count")
    packed = code.packed[0]
    operator(torch.array(moved(x, 0)))
    operator.set_filters(filters, bias)
    assert code.packed[1].data_ptr() != packed.data_ptr()
    gc.collect()
    assert uses(packed) > 1
    gpu.drain(torch.owner.current)
    gc.collect()
    assert uses(packed) == 1  # the test's own


@pytest.mark.parametrize("index", [0, 1])
def test_filters_may_be_on_a_gpu_whichever(make, workload, torch, cupy, gpu, index):
    x, filters, bias = integer_data(workload, 1)
    held = torch.array(undefined(filters.shape), index)
    gpu.launch(torch.owner.current, lambda: np.copyto(held.values, filters))
    operator, _ = make(workload, held, cupy.array(bias.copy(), index))
    held.values.fill(0)  # they were copied
    np.testing.assert_array_equal(operator(x), reference(workload, x, filters, bias))
    operator.set_filters(torch.array(spread(-filters), index), bias)
    np.testing.assert_array_equal(operator(x), reference(workload, x, -filters, bias))


def test_workspace_is_the_manifests(made):
    assert made[0].workspace_bytes == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_kernels_get_the_workloads_dtype(make, torch, gpu, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    workload = Workload.make([2, 3, 2, 4, 4], [3, 3, 3, 8, 4], [2, 6, 4, 8, 8], 2, dtype=dtype)
    x, filters, _ = integer_data(workload, 1)
    operator, code = make(workload, filters)
    expected = reference(workload, x, filters).astype(workload.numpy_dtype)
    assert np.array_equal(operator(x), expected)
    bits = np.uint16 if dtype == "bfloat16" else x.dtype
    source = torch.array(moved(x.view(bits), 0))
    source.half = dtype == "bfloat16"
    y = operator(source)
    gpu.drain(torch.owner.current)
    assert np.array_equal(y.values.view(x.dtype), expected)
    assert code.calls[1][:2] == (source.address, y.address)


# What is refused.


@pytest.mark.parametrize("kind", ["torch", "cupy", "jax", "other"])
def test_array_of_another_gpu_is_refused(made, torch, cupy, jax, exporter, gpu, kind):
    operator, code, x, expected = made
    array = {
        "torch": torch.array,
        "cupy": cupy.array,
        "jax": jax.array,
        "other": lambda values, index: exporter(gpu, values, index),
    }[kind]
    rule = r"with device=GPU 1: this operator is on GPU 0; .*gpu=1"
    with pytest.raises(errors.ArrayError, match=f"failed to use array x {rule}"):
        operator(array(x, 1))
    with pytest.raises(errors.ArrayError, match=f"failed to write to array out {rule}"):
        operator(x, out=array(expected, 1))
    assert not code.calls


def test_managed_memory_is_refused(made):
    operator, _, _, _ = made

    class Managed:
        def __dlpack_device__(self):
            return 13, 0

    with pytest.raises(errors.ArrayError, match="CUDA's managed one; copy it to the GPU's own"):
        operator(Managed())


def test_array_of_another_kind_of_device_is_refused(made):
    operator, _, _, _ = made

    class Elsewhere:
        def __dlpack_device__(self):
            return 7, 0  # Vulkan

        def __dlpack__(self, **options):
            raise BufferError

    with pytest.raises(errors.ArrayError, match="another device's"):
        operator(Elsewhere())


@pytest.mark.parametrize("shape", [(1, 3, 2, 4, 4), (3, 3, 2, 4, 4), (2, 3, 2, 4), (0, 3, 2, 4, 4)])
def test_input_of_another_shape_is_refused(made, framework, shape):
    operator, code, _, _ = made
    with pytest.raises(errors.ArrayError, match="failed to use array x with shape="):
        operator(framework.array(np.zeros(shape, np.float32)))
    assert not code.calls


def test_input_of_another_dtype_is_refused(made, torch, cupy):
    operator, _, x, _ = made
    with pytest.raises(errors.ArgumentTypeError, match=r"dtype=float64.*x\.to\(torch\.float32\)"):
        operator(torch.array(x.astype(np.float64)))
    with pytest.raises(errors.ArgumentTypeError, match=r"dtype=int32.*x\.astype\('float32'\)"):
        operator(cupy.array(x.astype(np.int32)))


def test_output_must_fit(made, framework):
    operator, code, x, expected = made
    source = framework.array(moved(x, 0))
    with pytest.raises(errors.ArgumentTypeError, match="array out with dtype=float64"):
        operator(source, out=framework.array(expected.astype(np.float64)))
    for shape in ((*expected.shape[:4], 9), expected.shape[1:], (0, *expected.shape[1:])):
        with pytest.raises(errors.ArrayError, match="write to array out with shape="):
            operator(source, out=framework.array(np.zeros(shape, np.float32)))
    one = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), expected.shape, (0,) * 5)
    with pytest.raises(errors.ArrayError, match="its elements must lie apart"):
        operator(source, out=framework.array(one))
    assert not code.calls


def test_output_over_the_input_is_refused(made, framework):
    operator, code, x, expected = made
    memory = np.zeros(expected.size + 16, np.float32)
    out, source = memory[16:].reshape(expected.shape), memory[: x.size].reshape(x.shape)
    with pytest.raises(errors.ArrayError, match="must not share memory with the input"):
        operator(framework.array(source), out=framework.array(out))
    assert not code.calls


def test_failure_of_compiled_code_is_told(made, torch, gpu, monkeypatch):
    operator, _, x, _ = made

    def failing(*tensors):
        raise RuntimeError("CUDA: an illegal memory access")

    monkeypatch.setattr(operator, "_run", tvm_ffi.convert(failing))
    with pytest.raises(errors.LibraryError, match=r"compiled code reports: .*illegal memory"):
        operator(torch.array(moved(x, 0)))


def test_memory_that_the_gpu_has_not_is_told(made, jax, monkeypatch):
    operator, _, x, _ = made

    def full(*arguments):
        raise RuntimeError("CUDA: out of memory")

    monkeypatch.setattr(cuda_memory, "_function", lambda name: full)
    with pytest.raises(
        MemoryError, match=r"allocate array on ext_dev:0 with float32 of shape.*out"
    ):
        operator(jax.array(moved(x, 0)))
