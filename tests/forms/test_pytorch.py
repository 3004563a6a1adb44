"""Is what `from_torch` makes of a module what PyTorch computes, and is all else refused?"""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import tvm_conv3dt
from tvm_conv3dt.errors import ArgumentTypeError, ArrayError, WorkloadError
from tvm_conv3dt.forms import from_torch, from_torch_functional
from tvm_conv3dt.reference import reference

pytestmark = pytest.mark.peers


def module(*arguments, dtype=torch.float64, **options):
    """A `ConvTranspose3d` with integers for parameters."""
    made = torch.nn.ConvTranspose3d(*arguments, dtype=dtype, **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randint(-8, 9, parameter.shape, generator=generator))
    return made


def integers(*shape, dtype=torch.float64):
    return torch.randint(-8, 9, shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def computed(form, x):
    """What the reference makes of a form and an input in PyTorch's order, in that order."""
    workload, last = form.workload, form.workload.data_format == "NDHWC"
    x = x if form.batched else x[None]
    size, out = workload.in_channels, workload.out_channels
    results = []
    for group, filters in enumerate(form.filters):
        part = x[:, group * size : (group + 1) * size]
        bias = None if form.bias is None else form.bias[group * out : (group + 1) * out]
        y = reference(workload, np.moveaxis(part, 1, -1) if last else part, filters, bias)
        results.append(np.moveaxis(y, -1, 1) if last else y)
    y = np.concatenate(results, axis=1)
    return y if form.batched else y[0]


def check(form, made, x, **call):
    with torch.no_grad():
        np.testing.assert_array_equal(computed(form, x.numpy()), made(x, **call).numpy())


@st.composite
def modules(draw):
    """Any module, small, and an input's shape."""

    def triple(least, most):
        return draw(st.tuples(*[st.integers(least, most)] * 3))

    kernel, stride, dilation, padding = triple(1, 4), triple(1, 4), triple(1, 3), triple(0, 3)
    limits = [max(s, d) for s, d in zip(stride, dilation, strict=True)]
    extra = [draw(st.integers(0, limit - 1)) for limit in limits]
    groups, cin, cout = triple(1, 3)
    made = module(
        groups * cin,
        groups * cout,
        kernel,
        stride,
        padding,
        extra,
        groups,
        draw(st.booleans()),
        dilation,
    )
    batch = draw(st.sampled_from([[], [1], [2]]))
    return made, [*batch, groups * cin, *triple(1, 4)]


@settings(max_examples=150, deadline=None)
@given(modules(), st.sampled_from(["NCDHW", "NDHWC"]))
def test_any_module_is_exact_on_integers(drawn, data_format):
    made, shape = drawn
    x = integers(*shape)
    try:
        made(x)
    except RuntimeError:  # nothing is left of the output
        with pytest.raises(WorkloadError, match="there must be at least 1"):
            from_torch(made, shape, data_format=data_format)
        assume(False)
    form = from_torch(made, shape, data_format=data_format)
    check(form, made, x)


def test_mirror_image_of_same_is_told_apart_from_it():
    made = module(3, 4, 3, stride=2, padding=1, output_padding=1)
    form = from_torch(made, [1, 3, 4, 5, 6])
    assert form.workload.padding == (1, 1, 1)
    assert form.workload.output_shape == (1, 4, 8, 10, 12)
    check(form, made, integers(1, 3, 4, 5, 6))


@pytest.mark.parametrize(
    ("kernel", "padding", "held"), [(2, 0, "VALID"), (4, 1, "SAME"), (6, 2, "SAME")]
)
def test_module_that_tensorflow_can_say_is_its_workload(kernel, padding, held):
    form = from_torch(module(3, 4, kernel, stride=2, padding=padding), [1, 3, 4, 5, 6])
    assert form.workload.padding == held


def test_arrays_are_tensorflows_and_one_for_each_group():
    made = module(6, 4, (1, 2, 3), groups=2)
    form = from_torch(made, (1, 6, 4, 4, 4))
    weight = made.weight.detach().numpy()
    assert [filters.shape for filters in form.filters] == [(1, 2, 3, 2, 3)] * 2
    assert form.filters[1][0, 1, 2, 0, 2] == weight[5, 0, 0, 1, 2]
    assert form.bias.tolist() == made.bias.tolist()
    assert form.groups == 2
    assert (form.input_shape, form.output_shape) == ((1, 6, 4, 4, 4), (1, 4, 4, 5, 6))


def test_arrays_stay_as_they_were():
    made = module(3, 4, 2)
    form = from_torch(made, [1, 3, 4, 4, 4])
    held = [each.copy() for each in (*form.filters, form.bias)]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    assert all((a == b).all() for a, b in zip(held, (*form.filters, form.bias), strict=True))
    with pytest.raises(ValueError, match="read-only"):
        form.filters[0][...] = 0


@pytest.mark.parametrize("batch", [[], [2]])
@pytest.mark.parametrize("whole", [False, True])
def test_output_size_is_taken_as_the_module_takes_it(batch, whole):
    made = module(3, 4, 3, stride=2, padding=1, output_padding=1)
    size = [*([*batch, 4] if whole else []), 7, 8, 7]
    form = from_torch(made, [*batch, 3, 4, 4, 4], output_size=size)
    check(form, made, integers(*batch, 3, 4, 4, 4), output_size=size)


@pytest.mark.parametrize("size", [[6, 7, 7], [7, 7, 9], [7, 7], [1, 1, 1, 7, 7, 7]])
def test_output_size_that_pytorch_refuses_is_refused(size):
    made = module(3, 4, 3, stride=2, padding=1)
    with pytest.raises(ValueError, match="output"):
        made(integers(1, 3, 4, 4, 4), output_size=size)
    with pytest.raises(WorkloadError, match="with output_size="):
        from_torch(made, [1, 3, 4, 4, 4], output_size=size)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtype_is_the_modules(dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    made = module(3, 4, 2, dtype=getattr(torch, dtype))
    form = from_torch(made, [1, 3, 4, 4, 4])
    assert form.workload.dtype == form.filters[0].dtype.name == form.bias.dtype.name == dtype
    assert form.filters[0].astype(float).sum() == made.weight.sum(dtype=torch.float64).item()


def test_precision_is_the_workloads():
    made = module(2, 3, 2, dtype=torch.float32)
    form = from_torch(made, [1, 2, 3, 4, 5], precision="bfloat16")
    assert form.workload == from_torch(made, [1, 2, 3, 4, 5]).workload.recast(precision="bfloat16")
    with pytest.raises(WorkloadError, match="it is for arrays of float32"):
        from_torch(module(2, 3, 2), [1, 2, 3, 4, 5], precision="bfloat16")


def test_parametrized_weight_is_what_the_module_computes_with():
    made = torch.nn.utils.parametrizations.weight_norm(module(3, 4, 2))
    form = from_torch(made, [1, 3, 4, 4, 4])
    assert (form.filters[0] == made.weight.detach().numpy().transpose(2, 3, 4, 1, 0)).all()


def test_function_takes_pytorchs_arguments_in_its_order():
    weight, bias = integers(4, 3, 2, 3, 2), integers(6)
    arguments = weight, bias, (2, 1, 3), 1, [1, 0, 2], 2, 1
    x = integers(2, 4, 3, 4, 5)
    form = from_torch_functional(x.shape, *arguments)
    expected = torch.nn.functional.conv_transpose3d(x, *arguments)
    assert (computed(form, x.numpy()) == expected.numpy()).all()


def test_function_takes_arrays_of_any_kind():
    weight = integers(3, 4, 2, 2, 2)
    forms = [from_torch_functional([3, 4, 4, 4], each) for each in (weight, weight.numpy())]
    assert forms[0].workload == forms[1].workload
    assert (forms[0].filters[0] == forms[1].filters[0]).all()


WEIGHT = torch.zeros(4, 3, 2, 2, 2)
SHAPE = [1, 4, 5, 5, 5]
REFUSED = {
    "channels of the input": ({"input_shape": [1, 3, 5, 5, 5]}, WorkloadError, "are 3 and must"),
    "input of rank 3": (
        {"input_shape": [4, 5, 5]},
        WorkloadError,
        "length is 3 and must be 4 or 5",
    ),
    "input without rows": ({"input_shape": [1, 4, 0, 5, 5]}, WorkloadError, "at least 1"),
    "float as a size": ({"input_shape": [1, 4, 5.0, 5, 5]}, ArgumentTypeError, "integers"),
    "weight of rank 4": ({"weight": WEIGHT[0]}, WorkloadError, "[in_channels, out_channels / gr"),
    "weight of integers": ({"weight": WEIGHT.int()}, ArgumentTypeError, "dtype=int32"),
    "no array": ({"weight": "weight"}, ArgumentTypeError, "failed to use array weight"),
    "weight without values": ({"weight": WEIGHT.to("meta")}, ArrayError, "cannot be read"),
    "bias of another length": ({"bias": torch.zeros(4)}, ArrayError, "its shape must be [3]"),
    "bias of another dtype": (
        {"bias": torch.zeros(3).double()},
        ArgumentTypeError,
        "bias of float64 and weight of float32: they must have the same dtype",
    ),
    "groups that do not divide": ({"groups": 3}, WorkloadError, "must divide the input's 4"),
    "no groups": ({"groups": 0}, WorkloadError, "groups=[0]: its entry 0 must be at least 1"),
    "groups of another type": ({"groups": "2"}, ArgumentTypeError, "groups='2'"),
    "bool as groups": ({"groups": True}, ArgumentTypeError, "not bools"),
    "stride of zero": ({"stride": 0}, WorkloadError, "stride=[0]"),
    "two strides": ({"stride": (2, 2)}, WorkloadError, "length is 2 and must be 1 or 3"),
    "negative padding": ({"padding": (0, -1, 0)}, WorkloadError, "entry 1 must be at least 0"),
    "padding by name": ({"padding": "same"}, ArgumentTypeError, "a sequence of integers"),
    "padding of everything": ({"padding": 3}, WorkloadError, "leaves an output of 0 for depth"),
    "output padding of a stride": (
        {"stride": 2, "output_padding": (0, 2, 0)},
        WorkloadError,
        "for height it must be less than the larger of stride 2 and dilation 1",
    ),
    "output padding and size": (
        {"stride": 2, "output_padding": 1, "output_size": [10, 10, 10]},
        WorkloadError,
        "output_padding is given as well",
    ),
    "another format": ({"data_format": "NCHW"}, WorkloadError, "one of NDHWC, NCDHW"),
    "dilation of a half": ({"dilation": 0.5}, ArgumentTypeError, "integers, not float"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_value_is_refused_by_its_error(name):
    changes, error, text = REFUSED[name]
    with pytest.raises(error, match=re.escape(text)) as caught:
        from_torch_functional(**{"input_shape": SHAPE, "weight": WEIGHT, **changes})
    assert str(caught.value).startswith("failed to ")


@pytest.mark.parametrize(
    "other",
    [
        torch.nn.Conv3d(4, 3, 2),
        torch.nn.ReLU(),
        torch.nn.Sequential(torch.nn.ConvTranspose3d(4, 3, 2)),
        None,
    ],
    ids=lambda other: type(other).__name__,
)
def test_other_module_is_refused(other):
    with pytest.raises(ArgumentTypeError, match=r"it must be a torch\.nn\.ConvTranspose3d"):
        from_torch(other, SHAPE)


def test_module_of_two_axes_is_refused():
    with pytest.raises(WorkloadError, match=r"weight=\[4, 3, 2, 2\]"):
        from_torch(torch.nn.ConvTranspose2d(4, 3, 2), SHAPE)


def test_padding_mode_other_than_zeros_is_refused():
    made = module(4, 3, 2)
    made.padding_mode = "reflect"  # the constructor refuses it as well
    with pytest.raises(WorkloadError, match="padding_mode='reflect'"):
        from_torch(made, SHAPE)


def test_module_without_parameters_yet_is_refused():
    with pytest.raises(ArrayError, match="failed to use array weight"):
        from_torch(torch.nn.LazyConvTranspose3d(3, 2), SHAPE)


def test_names_are_public():
    assert tvm_conv3dt.from_torch is from_torch
    assert tvm_conv3dt.from_torch_functional is from_torch_functional
