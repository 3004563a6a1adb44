"""Does an operator take every dtype and format of workloads, and tensors of every framework?

The kernels here are Python's: they compute the reference, from what compiled code would be handed.
"""

import numpy as np
import pytest

from tvm_conv3dt import errors
from tvm_conv3dt.level import Kernel, LibraryFile, ScheduleSummary
from tvm_conv3dt.manifest import Layer
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.runtime.operator import Operator
from tvm_conv3dt.spec import DTYPES, Workload

SHAPES = {
    "NDHWC": ([2, 3, 2, 4, 3], [3, 3, 3, 5, 3], [2, 6, 4, 8, 5]),
    "NCDHW": ([2, 3, 3, 2, 4], [3, 3, 3, 5, 3], [2, 5, 6, 4, 8]),
}


class Library:
    """Stands for compiled code: ``run`` and ``pack`` of one workload, which count their calls."""

    def __init__(self, workload):
        self.workload = workload
        self.calls = 0

    def function(self, symbol):
        return {"run": self.run, "pack": self.pack}[symbol]

    def array(self, tensor):
        declared = "uint16" if self.workload.dtype == "bfloat16" else self.workload.dtype
        array = np.from_dlpack(tensor)
        assert array.dtype == declared
        assert array.flags.c_contiguous
        return array.view(self.workload.numpy_dtype)

    def pack(self, filters, packed):
        self.filters = self.array(filters).copy()

    def run(self, x, packed, *rest):
        *bias, y = [self.array(each) for each in rest]
        self.calls += 1
        y[...] = reference(self.workload, self.array(x), self.filters, *bias)


def make(workload, filters, bias=None, packed_dtype=None, formulation="gather"):
    library = Library(workload)
    file = LibraryFile("none.so", "0" * 64, 0)
    schedule = ScheduleSummary("default", formulation, None)
    packed_dtype = packed_dtype or workload.sum_dtype
    kernel = Kernel("test", file, workload.filters, packed_dtype, 0, schedule)
    layer = Layer("test", workload, "run", "pack")
    return Operator(layer, kernel, library, filters, bias), library


@pytest.fixture(params=DTYPES)
def dtype(request):
    if request.param == "bfloat16":
        pytest.importorskip("ml_dtypes")
    return request.param


@pytest.fixture(params=SHAPES)
def workload(request, dtype):
    return Workload.make(
        *SHAPES[request.param], 2, data_format=request.param, dtype=dtype, bias=True
    )


@pytest.fixture
def plain():
    """Operator, its input and the right result."""
    workload = Workload.make(*SHAPES["NDHWC"], 2)
    x, filters, _ = integer_data(workload, 0)
    return make(workload, filters)[0], x, reference(workload, x, filters)


def test_kernel_gets_and_gives_the_workloads_dtype(workload):
    x, filters, bias = integer_data(workload, 0)
    op, library = make(workload, filters, bias)
    y = op(np.concatenate([x, -x]))
    assert library.calls == 2
    assert y.dtype == workload.numpy_dtype
    once = [reference(workload, each, filters, bias) for each in (x, -x)]
    np.testing.assert_array_equal(y, np.concatenate(once).astype(y.dtype))


def test_filters_that_are_not_finite_take_the_reference(workload):
    x, filters, bias = integer_data(workload, 0)
    filters[1, 1, 1, 2, 0], filters[0, 0, 0, 3, 1] = np.inf, np.nan
    op, library = make(workload, filters, bias)
    out = np.zeros((4, *workload.output_shape[1:]), workload.numpy_dtype)
    assert op(np.concatenate([x, x]), out=out) is out
    assert library.calls == 0
    once = reference(workload, x, filters, bias).astype(out.dtype)
    assert np.isinf(once).any()
    assert np.isnan(once).any()
    assert np.isfinite(once).any()
    twice = np.concatenate([once, once])
    # NaN of bfloat16 is unequal to itself also for assert_array_equal.
    np.testing.assert_array_equal(out.astype(np.float64), twice.astype(np.float64))


@pytest.mark.parametrize(("packed_dtype", "calls"), [("float32", 1), ("uint16", 0)])
def test_infinite_filters_take_the_kernel_where_no_zero_meets_them(packed_dtype, calls):
    """None is around the input here; among pieces of filters there may be some."""
    workload = Workload.make([1, 2, 2, 2, 3], [2, 2, 2, 4, 3], [1, 4, 4, 4, 4], 2)
    filters = np.full(workload.filters, np.inf, np.float32)
    op, library = make(workload, filters, packed_dtype=packed_dtype)
    assert np.isposinf(op(np.ones(workload.input, np.float32))).all()
    assert library.calls == calls


@pytest.mark.parametrize(
    ("filter_", "calls"), [(2.0**50, 1), (-(2.0**51), 0), (np.inf, 0), (np.nan, 0)]
)
def test_filters_that_are_added_up_are_no_very_large_ones(filter_, calls):
    workload = Workload.make([1, 2, 2, 2, 3], [2, 2, 2, 4, 3], [1, 4, 4, 4, 4], 2)
    filters = np.ones(workload.filters, np.float32)
    filters[1, 0, 1, 2, 0] = filter_
    op, library = make(workload, filters, formulation="winograd-2x2x2-1x1")
    x = np.ones(workload.input, np.float32)
    np.testing.assert_array_equal(op(x), reference(workload, x, filters).astype(np.float32))
    assert library.calls == calls


@pytest.mark.filterwarnings("error")
def test_results_past_the_dtype_are_infinite_by_the_reference_too():
    workload = Workload.make(*SHAPES["NDHWC"], 2, dtype="float16")
    x, filters = (np.full(s, 60000, "float16") for s in (workload.input, workload.filters))
    filters[0, 0, 0, 0, 0] = np.inf
    op, _ = make(workload, filters)
    assert np.isposinf(op(x)).all()


def test_largest_finite_filters_take_the_kernel(dtype):
    workload = Workload.make(*SHAPES["NDHWC"], 2, dtype=dtype)
    largest = {"float16": 65504, "float64": np.finfo(np.float64).max}.get(dtype, 3.38e38)
    filters = np.full(workload.filters, largest, workload.numpy_dtype)
    assert np.isfinite(filters).all()
    for signed in (filters, np.where(np.indices(filters.shape)[0] == 0, filters, -filters)):
        op, library = make(workload, signed)
        op(np.zeros(workload.input, workload.numpy_dtype))
        assert library.calls == 1


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_one_value_among_large_ones_takes_the_reference(dtype, value):
    workload = Workload.make(*SHAPES["NDHWC"], 2, dtype=dtype)
    filters = np.full(workload.filters, 6e4, workload.numpy_dtype)
    if dtype == "float64":
        filters[...] = np.finfo(np.float64).max
    filters[-1, -1, -1, -1, -1] = value
    op, library = make(workload, filters)
    op(np.zeros(workload.input, workload.numpy_dtype))
    assert library.calls == 0


@pytest.mark.parametrize("shape", [[1 << 20, 1 << 20, 1 << 10, 1, 3], [1 << 40], [0, 3, 2, 4, 3]])
def test_array_of_another_shape_is_refused_before_it_is_copied(plain, shape):
    op, _, _ = plain
    huge = np.broadcast_to(np.float32(0), shape)
    with pytest.raises(errors.ArrayError, match="failed to use array x with shape="):
        op(huge)
    with pytest.raises(errors.ArrayError, match="failed to use array filters with shape="):
        op.set_filters(huge)


def test_masked_input_is_refused(plain):
    op, x, _ = plain
    with pytest.raises(errors.ArrayError, match=r"masked elements have no value.*x\.filled\(0\)"):
        op(np.ma.masked_less(x, 0))


def test_matrix_has_another_shape(plain):
    op, _, _ = plain
    with pytest.raises(errors.ArrayError, match="array x with shape="):
        op(np.ones((2, 72), np.float32).view(np.matrix))


@pytest.mark.parametrize("layout", ["copied", "direct"])
def test_out_over_the_input_is_refused_whether_that_is_copied_or_not(plain, layout):
    op, x, expected = plain
    memory = np.zeros(expected.size, np.float32)
    out, inside = memory.reshape(expected.shape), memory[: x.size].reshape(x.shape)
    given = inside if layout == "direct" else inside[:, ::-1]
    with pytest.raises(errors.ArrayError, match="must not share memory with the input"):
        op(given, out=out)
    assert not memory.any()


def test_out_may_lie_over_filters_and_bias():
    workload = Workload.make(*SHAPES["NDHWC"], 2, bias=True)
    x, filters, bias = integer_data(workload, 0)
    expected = reference(workload, x, filters, bias)
    memory = np.zeros(expected.size, np.float32)
    memory[: filters.size], memory[-bias.size :] = filters.ravel(), bias
    filters, bias = memory[: filters.size].reshape(filters.shape), memory[-bias.size :]
    for infinite in (False, True):  # by the kernel, and by the reference
        if infinite:
            filters.flat[:], bias[:] = np.inf, 1
            expected = reference(workload, x, filters, bias)
        op, _ = make(workload, filters, bias)
        for _ in range(2):
            np.testing.assert_array_equal(op(x, out=memory.reshape(expected.shape)), expected)


@pytest.mark.peers
class TestTorch:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    def test_tensor_gives_a_tensor(self, torch, workload):
        dtype = getattr(torch, workload.dtype)
        arrays = integer_data(workload, 0)
        x, filters, bias = (torch.from_numpy(a.astype(np.float64)).to(dtype) for a in arrays)
        op, _ = make(workload, filters, bias)
        y = op(x)
        assert type(y) is torch.Tensor
        assert y.dtype == dtype
        expected = torch.from_numpy(reference(workload, *arrays)).to(dtype)
        assert torch.equal(y, expected)

    def test_tensor_of_channels_last_memory_format_is_taken(self, torch, plain):
        op, x, expected = plain
        tensor = (
            torch.from_numpy(x)
            .permute(0, 4, 1, 2, 3)
            .contiguous(memory_format=torch.channels_last_3d)
        )
        assert np.array_equal(op(tensor.permute(0, 2, 3, 4, 1)).numpy(), expected)

    @pytest.mark.parametrize("layout", ["direct", "permuted"])
    def test_out_may_be_a_tensor(self, torch, plain, layout):
        op, x, expected = plain
        out = torch.full(expected.shape, torch.nan)
        if layout == "permuted":
            out = torch.full(expected.shape[::-1], torch.nan).permute(4, 3, 2, 1, 0)
        place = out.data_ptr()
        assert op(x, out=out) is out
        assert out.data_ptr() == place
        assert np.array_equal(out.numpy(), expected)

    def test_bfloat16_out_may_be_a_tensor(self, torch):
        pytest.importorskip("ml_dtypes")
        workload = Workload.make(*SHAPES["NCDHW"], 2, data_format="NCDHW", dtype="bfloat16")
        x, filters, _ = integer_data(workload, 0)
        op, _ = make(workload, filters)
        out = torch.full(workload.output_shape, torch.nan, dtype=torch.bfloat16)
        assert op(x, out=out) is out
        assert torch.equal(out, torch.from_numpy(reference(workload, x, filters)).bfloat16())

    def test_out_over_the_input_is_refused_across_frameworks(self, torch, plain):
        op, x, expected = plain
        memory = np.zeros(expected.size, np.float32)
        out = torch.from_numpy(memory).reshape(expected.shape)
        with pytest.raises(errors.ArrayError, match="must not share memory with the input"):
            op(memory[: x.size].reshape(x.shape), out=out)

    def test_tensor_of_another_dtype_is_told_how_to_convert(self, torch, plain):
        op, x, _ = plain
        with pytest.raises(errors.ArgumentTypeError, match=r"with: x\.to\(torch\.float32\)$"):
            op(torch.from_numpy(x).half())

    def test_parameters_are_taken_where_nothing_is_recorded(self, torch):
        workload = Workload.make(*SHAPES["NDHWC"], 2)
        x, filters, _ = integer_data(workload, 0)
        weight = torch.nn.Parameter(torch.from_numpy(filters))
        with pytest.raises(errors.ArrayError, match=r"array filters.*pass filters\.detach\(\)"):
            make(workload, weight)
        with torch.no_grad():
            op, _ = make(workload, weight)
        assert np.array_equal(op(x), reference(workload, x, filters))


@pytest.mark.oracle
def test_tensorflow_gives_a_tensor(workload):
    tf = pytest.importorskip("tensorflow")
    arrays = integer_data(workload, 0)
    x, filters, bias = (tf.constant(array) for array in arrays)
    op, _ = make(workload, tf.Variable(filters), bias)
    y = op(x)
    assert isinstance(y, tf.Tensor)
    assert y.dtype.name == workload.dtype
    assert np.array_equal(y.numpy(), reference(workload, *arrays).astype(workload.numpy_dtype))


@pytest.mark.peers
def test_jax_gives_an_array(workload):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    arrays = integer_data(workload, 0)
    op, _ = make(workload, *map(jax.numpy.asarray, arrays[1:]))
    y = op(jax.numpy.asarray(arrays[0]))
    assert isinstance(y, jax.Array)
    assert y.dtype.name == workload.dtype
    expected = reference(workload, *arrays).astype(workload.numpy_dtype)
    assert np.array_equal(np.asarray(y), expected)
