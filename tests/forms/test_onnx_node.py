"""Is what `from_onnx` makes of a node what ONNX computes, and is all else refused?"""

import re

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import tvm_conv3dt
from tvm_conv3dt.errors import ArgumentTypeError, ArrayError, UnsupportedError, WorkloadError
from tvm_conv3dt.forms import from_onnx
from tvm_conv3dt.reference import reference

pytestmark = pytest.mark.peers

# What is special -> sizes of the input, kernel, attributes, and whether ONNX's own evaluator can say it.
NODES = {
    "defaults": ((3, 4, 5), (2, 3, 1), {}, True),
    "every attribute": (
        (3, 4, 5),
        (3, 3, 2),
        {
            "auto_pad": "NOTSET",
            "dilations": [1, 2, 1],
            "group": 1,
            "kernel_shape": [3, 3, 2],
            "output_padding": [1, 0, 1],
            "pads": [1, 2, 0, 1, 0, 0],
            "strides": [2, 1, 3],
        },
        True,
    ),
    "more cut before": (
        (3, 4, 5),
        (3, 3, 3),
        {"pads": [2, 1, 1, 0, 0, 1], "strides": [2] * 3},
        True,
    ),
    "VALID": ((3, 4, 5), (3, 3, 3), {"auto_pad": "VALID", "strides": [2] * 3}, True),
    "SAME_UPPER": ((3, 4, 5), (3, 4, 5), {"auto_pad": "SAME_UPPER", "strides": [2] * 3}, True),
    "SAME_LOWER": ((3, 4, 5), (3, 4, 5), {"auto_pad": "SAME_LOWER", "strides": [2] * 3}, True),
    "SAME of dilated taps": (
        (3, 4, 5),
        (3, 2, 3),
        {"auto_pad": "SAME_LOWER", "strides": [2, 2, 3], "dilations": [2, 3, 1]},
        True,
    ),
    # The evaluator takes the missing positions for negative padding and moves the result.
    "SAME of a small kernel": (
        (3, 4, 5),
        (1, 2, 1),
        {"auto_pad": "SAME_UPPER", "strides": [3, 3, 2]},
        False,
    ),
    "SAME and output_padding": (
        (3, 4, 5),
        (3, 3, 3),
        {"auto_pad": "SAME_UPPER", "strides": [2] * 3, "output_padding": [1, 0, 1]},
        True,
    ),
    "output_shape, SAME_UPPER": (
        (3, 4, 5),
        (3, 3, 3),
        {"auto_pad": "SAME_UPPER", "strides": [2] * 3, "output_shape": [6, 7, 10]},
        True,
    ),
    # The evaluator takes `pads` for zeros instead of making them up.
    "output_shape alone": (
        (3, 4, 5),
        (3, 3, 3),
        {"strides": [2] * 3, "output_shape": [6, 7, 10]},
        False,
    ),
    "output_shape and VALID": (
        (3, 4, 5),
        (3, 3, 3),
        {"auto_pad": "VALID", "strides": [2] * 3, "output_shape": [6, 8, 9]},
        False,
    ),
    "output_shape and pads": (
        (3, 4, 5),
        (3, 3, 3),
        {"pads": [0] * 6, "strides": [2] * 3, "output_shape": [4, 8, 10]},
        False,
    ),
    "output_shape with zeros after": (
        (3, 4, 5),
        (3, 3, 3),
        {"strides": [2] * 3, "output_shape": [8, 10, 12]},
        True,
    ),
    "groups": ((3, 4, 5), (3, 3, 3), {"group": 2, "strides": [2] * 3}, False),
}


def parts(kernel, group=1, bias=True, dtype=np.float32):
    """Weight and bias, integers, as initializers."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-8, 9, (4, 6 // group, *kernel)).astype(dtype)
    values = {"w": weight} | ({"b": rng.integers(-8, 9, 6).astype(dtype)} if bias else {})
    return [numpy_helper.from_array(value, name) for name, value in values.items()]


def node(attributes, bias=True):
    return helper.make_node("ConvTranspose", ["x", "w", *["b"] * bias], ["y"], **attributes)


def model(made, initializers):
    x, y = (helper.make_tensor_value_info(name, 1, None) for name in "xy")
    graph = helper.make_graph([made], "graph", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def computed(form, x):
    """What the reference makes of a form and an input in ONNX's order, in that order."""
    workload, last = form.workload, form.workload.data_format == "NDHWC"
    size, out = workload.in_channels, workload.out_channels
    results = []
    for group, filters in enumerate(form.filters):
        part = x[:, group * size : (group + 1) * size]
        bias = None if form.bias is None else form.bias[group * out : (group + 1) * out]
        y = reference(workload, np.moveaxis(part, 1, -1) if last else part, filters, bias)
        results.append(np.moveaxis(y, -1, 1) if last else y)
    return np.concatenate(results, axis=1)


def input_of(spatial):
    return np.random.default_rng(1).integers(-8, 9, (2, 4, *spatial)).astype(np.float32)


@pytest.mark.parametrize("data_format", ["NCDHW", "NDHWC"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", NODES)
def test_node_is_exact_on_integers_beside_onnx_runtime(name, bias, data_format):
    onnxruntime = pytest.importorskip("onnxruntime")
    spatial, kernel, attributes, _ = NODES[name]
    x, made = input_of(spatial), node(attributes, bias)
    initializers = parts(kernel, attributes.get("group", 1), bias)
    session = onnxruntime.InferenceSession(model(made, initializers).SerializeToString())
    form = from_onnx(made, x.shape, initializers, data_format=data_format)
    np.testing.assert_array_equal(computed(form, x), session.run(None, {"x": x})[0])


@pytest.mark.parametrize("name", [name for name, case in NODES.items() if case[3]])
def test_node_is_exact_on_integers_beside_onnxs_evaluator(name):
    spatial, kernel, attributes, _ = NODES[name]
    x, made, initializers = input_of(spatial), node(attributes), parts(kernel)
    (expected,) = ReferenceEvaluator(model(made, initializers)).run(None, {"x": x})
    np.testing.assert_array_equal(computed(from_onnx(made, x.shape, initializers), x), expected)


def test_same_upper_is_tensorflows_same_and_same_lower_is_not():
    for mode, held in (("SAME_UPPER", "SAME"), ("SAME_LOWER", (1, 1, 1))):
        made = node({"auto_pad": mode, "strides": [2, 2, 2]})
        form = from_onnx(made, [1, 4, 3, 4, 5], parts((3, 3, 3)))
        assert form.workload.padding == held


def test_initializers_may_be_a_graphs_or_arrays_by_name():
    made, tensors = node({}), parts((2, 2, 2))
    graph = model(made, tensors).graph
    arrays = {each.name: numpy_helper.to_array(each) for each in tensors}
    forms = [
        from_onnx(graph.node[0], [1, 4, 3, 3, 3], each)
        for each in (tensors, graph.initializer, arrays, {t.name: t for t in tensors})
    ]
    assert len({form.workload for form in forms}) == 1
    assert all((form.filters[0] == forms[0].filters[0]).all() for form in forms)
    assert all((form.bias == arrays["b"]).all() for form in forms)


def test_bias_may_be_left_out_by_an_empty_name():
    made = helper.make_node("ConvTranspose", ["x", "w", ""], ["y"])
    assert from_onnx(made, [1, 4, 3, 3, 3], parts((2, 2, 2))).bias is None


def test_precision_is_the_workloads():
    form = from_onnx(node({}), [1, 4, 3, 3, 3], parts((2, 2, 2)), precision="bfloat16")
    assert (form.workload.dtype, form.workload.precision) == ("float32", "bfloat16")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtype_is_the_weights(dtype):
    kind = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    form = from_onnx(node({}), [1, 4, 3, 3, 3], parts((2, 2, 2), dtype=kind))
    assert form.workload.dtype == form.filters[0].dtype.name == dtype


REFUSED = {
    "another operator": ("Conv", {}, {}, UnsupportedError, "op_type=Conv"),
    "another domain": ("ConvTranspose", {"domain": "mine"}, {}, UnsupportedError, "mine.ConvTr"),
    "unknown attribute": ("ConvTranspose", {"stride": [1, 1, 1]}, {}, UnsupportedError, "stride:"),
    "attribute of another type": (
        "ConvTranspose",
        {"group": [1]},
        {},
        ArgumentTypeError,
        "attribute group of type 7",
    ),
    "unknown auto_pad": ("ConvTranspose", {"auto_pad": "SAME"}, {}, WorkloadError, "one of NOTSET"),
    "pads and auto_pad": (
        "ConvTranspose",
        {"auto_pad": "SAME_UPPER", "pads": [0] * 6},
        {},
        WorkloadError,
        "auto_pad=SAME_UPPER is given as well",
    ),
    "negative pads": ("ConvTranspose", {"pads": [0] * 5 + [-1]}, {}, WorkloadError, "entry 5 must"),
    "pads of two axes": ("ConvTranspose", {"pads": [0] * 4}, {}, WorkloadError, "must be 6"),
    "strides of two axes": ("ConvTranspose", {"strides": [2, 2]}, {}, WorkloadError, "must be 3"),
    "one stride": (
        "ConvTranspose",
        {"strides": [2]},
        {},
        WorkloadError,
        "length is 1 and must be 3",
    ),
    "another kernel_shape": (
        "ConvTranspose",
        {"kernel_shape": [2, 2, 3]},
        {},
        WorkloadError,
        "kernel_shape=[2, 2, 3]: the weight's is [2, 2, 2]",
    ),
    "output_padding of a stride": (
        "ConvTranspose",
        {"output_padding": [0, 0, 1]},
        {},
        WorkloadError,
        "for width it must be less than the larger of stride 1 and dilation 1",
    ),
    "output_shape out of reach": (
        "ConvTranspose",
        {"output_shape": [4, 4, 5]},
        {},
        WorkloadError,
        "an input of 3 allows outputs from 1 to 4",
    ),
    "output_shape of five": (
        "ConvTranspose",
        {"output_shape": [1, 6, 4, 4, 4]},
        {},
        WorkloadError,
        "5 a",
    ),
    "pads of everything": ("ConvTranspose", {"pads": [4] * 6}, {}, WorkloadError, "at least 1"),
    "groups that do not divide": ("ConvTranspose", {"group": 3}, {}, WorkloadError, "groups=3"),
    "group of zero": ("ConvTranspose", {"group": 0}, {}, WorkloadError, "group=[0]"),
    "channels": ("ConvTranspose", {}, {"input_shape": [1, 5, 3, 3, 3]}, WorkloadError, "must be 4"),
    "two axes": (
        "ConvTranspose",
        {},
        {"input_shape": [1, 4, 3, 3]},
        UnsupportedError,
        "three spatial",
    ),
    "names of dimensions": (
        "ConvTranspose",
        {},
        {"input_shape": ["N", 4, 3, 3, 3]},
        ArgumentTypeError,
        "integers, not str",
    ),
    "weight that is computed": (
        "ConvTranspose",
        {},
        {"initializers": []},
        WorkloadError,
        "input 'w'",
    ),
    "no initializers": ("ConvTranspose", {}, {"initializers": None}, ArgumentTypeError, "by name"),
    "bias of another length": (
        "ConvTranspose",
        {},
        {"initializers": {"w": np.ones((4, 6, 2, 2, 2)), "b": np.ones(5)}},
        ArrayError,
        "its shape must be [6]",
    ),
    "weight of integers": (
        "ConvTranspose",
        {},
        {"initializers": {"w": np.ones((4, 6, 2, 2, 2), int), "b": np.ones(6)}},
        ArgumentTypeError,
        "dtype=int64",
    ),
    "no node": (None, {}, {}, ArgumentTypeError, "it must be an onnx.NodeProto"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_node_is_refused_by_its_error(name):
    kind, attributes, changes, error, text = REFUSED[name]
    made = kind and helper.make_node(kind, ["x", "w", "b"], ["y"], **attributes)
    arguments = {"input_shape": [1, 4, 3, 3, 3], "initializers": parts((2, 2, 2)), **changes}
    with pytest.raises(error, match=re.escape(text)) as caught:
        from_onnx(made, **arguments)
    assert str(caught.value).startswith("failed to ")


@pytest.mark.parametrize("inputs", [["x"], ["x", ""], ["x", "w", "b", "w"]])
def test_node_of_other_inputs_is_refused(inputs):
    with pytest.raises(WorkloadError, match="it takes X, W and optionally B"):
        from_onnx(
            helper.make_node("ConvTranspose", inputs, ["y"]), [1, 4, 3, 3, 3], parts((2, 2, 2))
        )


def test_weight_in_a_file_that_is_not_there_is_refused():
    weight, bias = parts((2, 2, 2))
    onnx.external_data_helper.set_external_data(weight, "nowhere.bin")
    weight.ClearField("raw_data")
    with pytest.raises(ArrayError, match="which also loads external data"):
        from_onnx(node({}), [1, 4, 3, 3, 3], [weight, bias])


def test_name_is_public():
    assert tvm_conv3dt.from_onnx is from_onnx
