"""Do a form's operators compute it, compiled or from a bundle, whatever the groups, batch and arrays?"""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("tvm")

import tvm_conv3dt
from tvm_conv3dt.errors import ArgumentTypeError, ArrayError, WorkloadError, WorkloadNotFoundError
from tvm_conv3dt.forms import ConvTranspose, from_torch_functional
from tvm_conv3dt.reference import reference
from tvm_conv3dt.runtime import GroupedOperator
from tvm_conv3dt.runtime.host_place import HostPlace

FORMATS = ["NCDHW", "NDHWC"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TVM_CONV3DT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def integers(*shape):
    return np.random.default_rng(0).integers(-8, 9, shape).astype(np.float32)


def form_of(groups, batch=(2,), data_format="NCDHW", bias=True, precision=None):
    """The mirror image of SAME in some groups: PyTorch's form, of NumPy's arrays."""
    return from_torch_functional(
        [*batch, 3 * groups, 3, 4, 5],
        integers(3 * groups, 2, 3, 3, 3),
        integers(2 * groups) if bias else None,
        stride=2,
        padding=1,
        output_padding=1,
        groups=groups,
        data_format=data_format,
        precision=precision,
    )


def expected(form, x):
    """By the reference, group for group."""
    channel = form.workload.data_format.index("C")
    x = x if form.batched else x[None]
    biases = [None] * form.groups if form.bias is None else np.split(form.bias, form.groups)
    y = np.concatenate(
        [
            reference(form.workload, part, filters, bias)
            for part, filters, bias in zip(
                np.split(x, form.groups, axis=channel), form.filters, biases, strict=True
            )
        ],
        axis=channel,
    )
    return y if form.batched else y[0]


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("batch", [(), (1,), (2,)])
@pytest.mark.parametrize("groups", [1, 3])
def test_operator_is_exact(groups, batch, data_format):
    form = form_of(groups, batch, data_format)
    x = integers(*form.input_shape)
    y = form.operator()(x)
    assert y.shape == form.output_shape
    assert np.array_equal(y, expected(form, x))


@pytest.mark.parametrize("data_format", FORMATS)
def test_result_is_written_where_it_is_wanted(data_format):
    form = form_of(2, (), data_format)
    operator, x = form.operator(), integers(*form.input_shape)
    for out in (operator.empty(), np.empty((*form.output_shape, 2), np.float32)[..., 0]):
        out[...] = np.nan
        assert operator(x, out) is out
        assert np.array_equal(out, expected(form, x))


def test_batch_may_be_a_multiple_of_the_workloads():
    form = form_of(2, (1,))
    x = integers(3, *form.input_shape[1:])
    found = form.operator()(x)
    for index in range(3):
        assert np.array_equal(found[index : index + 1], expected(form, x[index : index + 1]))


def test_groups_without_a_bias():
    form = form_of(2, bias=False)
    x = integers(*form.input_shape)
    assert np.array_equal(form.operator()(x), expected(form, x))


def test_precision_is_the_workloads_and_integers_are_exact():
    form = form_of(2, precision="bfloat16")
    assert form.workload == form_of(2).workload.recast(precision="bfloat16")
    x = integers(*form.input_shape)
    assert np.array_equal(form.operator()(x), expected(form, x))


def test_precision_for_another_weight_than_float32_is_refused():
    with pytest.raises(WorkloadError, match="it is for arrays of float32, and dtype is float64"):
        from_torch_functional([1, 1, 2, 2, 2], np.ones((1,) * 5), precision="bfloat16")


def test_slices_of_a_volume_of_channels_first_are_not_copied():
    form = form_of(2, (1,))
    seen = []

    class Spy:
        workload = form.workload
        place = HostPlace()

        def __call__(self, x, out):
            seen.append((x, out))

    x, out = integers(*form.input_shape), np.empty(form.output_shape, np.float32)
    GroupedOperator([Spy(), Spy()])(x, out)
    assert all(each.flags.c_contiguous for pair in seen for each in pair)
    assert [np.shares_memory(x[:, 3 * g : 3 * g + 3], seen[g][0]) for g in (0, 1)] == [True, True]
    assert [np.shares_memory(out[:, 2 * g : 2 * g + 2], seen[g][1]) for g in (0, 1)] == [True, True]


@pytest.mark.parametrize(
    "shape",
    [
        (2, 6, 3, 4, 6),
        (2, 5, 3, 4, 5),
        (3, 6, 3, 4, 5),
        (0, 6, 3, 4, 5),
        (6, 3, 4, 5),
        (2, 3, 4, 5, 6),
    ],
)
def test_input_of_another_shape_is_refused(shape):
    with pytest.raises(ArrayError, match=r"takes the shape \[2, 6, 3, 4, 5\], or a multiple"):
        form_of(2).operator()(np.zeros(shape, np.float32))


@pytest.mark.parametrize("groups", [1, 2])
def test_input_with_a_batch_is_refused_where_there_is_none(groups):
    form = form_of(groups, ())
    with pytest.raises(ArrayError, match=rf"takes the shape \[{3 * groups}, 3, 4, 5\]$"):
        form.operator()(np.zeros((1, *form.input_shape), np.float32))


def test_input_of_another_dtype_is_refused():
    form = form_of(2)
    with pytest.raises(ArgumentTypeError, match="this workload takes float32"):
        form.operator()(np.zeros(form.input_shape))


def test_output_over_the_input_is_refused():
    form = from_torch_functional([4, 3, 3, 3], integers(4, 2, 1, 1, 1), groups=2)
    x = integers(*form.input_shape)
    with pytest.raises(ArrayError, match="share memory"):
        form.operator()(x, x)


def test_bundle_that_holds_the_workload_is_used():
    from tvm_conv3dt.compiler.cache import bundle_for

    form = form_of(2)
    bundle = tvm_conv3dt.load(bundle_for(form.workload))
    x = integers(*form.input_shape)
    assert np.array_equal(form.operator(bundle)(x), expected(form, x))


def test_bundle_without_the_workload_is_an_error():
    from tvm_conv3dt.compiler.cache import bundle_for

    form = form_of(2)
    bundle = tvm_conv3dt.load(bundle_for(form.workload))
    with pytest.raises(WorkloadNotFoundError, match="failed to find workload"):
        form_of(3, (1,)).operator(bundle)


def test_activation_may_follow():
    form = form_of(2)
    form = dataclasses.replace(form, workload=dataclasses.replace(form.workload, activation="relu"))
    x = integers(*form.input_shape)
    assert np.array_equal(form.operator()(x), expected(form, x))


def test_form_says_what_it_is():
    form = form_of(2)
    assert repr(form) == f"<ConvTranspose 2 groups of {form.workload.id}>"
    assert repr(form.operator()) == f"<GroupedOperator of 2: {form.workload.id}>"
    assert isinstance(form, ConvTranspose)


@pytest.mark.peers
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("groups", [1, 2])
def test_tensor_of_pytorch_comes_back_as_one(groups, batch):
    torch = pytest.importorskip("torch")
    module = torch.nn.ConvTranspose3d(4, 6, 3, 2, 1, 1, groups)
    x = torch.randint(-8, 9, (*batch, 4, 3, 4, 5)).float()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randint(-8, 9, parameter.shape))
        found, wanted = tvm_conv3dt.from_torch(module, x.shape).operator()(x), module(x)
    assert isinstance(found, torch.Tensor)
    assert torch.equal(found, wanted)
