"""Do groups of channels work on a GPU as they do on the CPU?"""

import numpy as np
import pytest
import tvm_ffi

from tvm_conv3dt import errors
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.runtime import GroupedOperator
from tvm_conv3dt.spec import Workload

SHAPES = {
    "NDHWC": ([2, 3, 2, 4, 4], [3, 3, 3, 8, 4], [2, 6, 4, 8, 8]),
    "NCDHW": ([2, 4, 3, 2, 4], [3, 3, 3, 8, 4], [2, 8, 6, 4, 8]),
}


class Case:
    def __init__(self, make, data_format, batched):
        shapes = [list(each) for each in SHAPES[data_format]]
        if not batched:
            shapes[0][0] = shapes[2][0] = 1
        workload = Workload.make(*shapes, 2, data_format=data_format)
        data = [integer_data(workload, seed) for seed in (1, 2)]
        axis = data_format.index("C")
        pairs = [make(workload, filters) for _, filters, _ in data]
        self.codes = [code for _, code in pairs]
        self.operator = GroupedOperator([operator for operator, _ in pairs], batched)
        self.x = np.concatenate([x for x, _, _ in data], axis)
        results = [reference(workload, x, filters) for x, filters, _ in data]
        self.expected = np.concatenate(results, axis).astype(np.float32)
        if not batched:
            self.x, self.expected = self.x[0], self.expected[0]


@pytest.fixture(params=SHAPES)
def data_format(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["batch", "no batch"])
def case(request, make, data_format):
    return Case(make, data_format, request.param)


@pytest.mark.parametrize("name", ["torch", "cupy"])
def test_slices_are_computed_on_the_current_stream(case, gpu, request, name):
    framework = request.getfixturevalue(name)
    y = case.operator(framework.array(case.x.copy()))
    out = framework.array(np.full_like(case.expected, np.nan))
    assert case.operator(framework.array(case.x.copy()), out=out) is out
    assert gpu.waits == []
    gpu.drain(framework.owner.current)
    np.testing.assert_array_equal(y.values, case.expected)
    np.testing.assert_array_equal(out.values, case.expected)


def test_slices_of_channels_first_are_used_in_place(make, torch):
    case = Case(make, "NCDHW", batched=False)
    x = torch.array(case.x.copy())
    y = case.operator(x)
    found = [code.calls[0] for code in case.codes]
    half = [values.nbytes // 2 for values in (case.x, case.expected)]
    stream = torch.owner.current
    first = (x.address, y.address, stream)
    assert found == [first, (x.address + half[0], y.address + half[1], stream)]


def test_jax_puts_the_results_together(case, jax):
    y = case.operator(jax.array(case.x.copy()))
    assert type(y) is jax.Array
    np.testing.assert_array_equal(y.values, case.expected)


def test_numpy_arrays_are_copied_there_and_back(case):
    np.testing.assert_array_equal(case.operator(case.x), case.expected)
    out = np.full_like(case.expected, np.nan)
    assert case.operator(case.x, out=out) is out
    np.testing.assert_array_equal(out, case.expected)


def test_output_may_be_elsewhere_than_the_input(case, torch, gpu):
    out = torch.array(np.full_like(case.expected, np.nan))
    assert case.operator(case.x, out=out) is out
    gpu.drain(torch.owner.current)
    np.testing.assert_array_equal(out.values, case.expected)
    host = np.full_like(case.expected, np.nan)
    assert case.operator(torch.array(case.x.copy()), out=host) is host
    np.testing.assert_array_equal(host, case.expected)


def test_array_without_slices_is_refused(case, exporter, gpu):
    with pytest.raises(errors.ArrayError, match="take slices of its channels"):
        case.operator(exporter(gpu, case.x.copy()))


def test_output_is_checked_as_a_whole(case, torch):
    memory = np.zeros(case.expected.size, np.float32)
    x = memory[: case.x.size].reshape(case.x.shape)
    with pytest.raises(errors.ArrayError, match="must not share memory with the input"):
        case.operator(torch.array(x), out=torch.array(memory.reshape(case.expected.shape)))
    with pytest.raises(errors.ArrayError, match="write to array out with shape="):
        case.operator(torch.array(case.x.copy()), out=torch.array(case.expected[..., :-1]))
    assert not any(code.calls for code in case.codes)


def test_empty_is_on_the_gpu(case):
    out = case.operator.empty()
    assert isinstance(out, tvm_ffi.Tensor)
    assert out.shape == case.expected.shape
    assert str(out.device) == "ext_dev:0"
