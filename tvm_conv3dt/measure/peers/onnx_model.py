"""A layer as an ONNX model, for the runtimes that read one."""

from __future__ import annotations

from onnx import TensorProto, checker, helper, numpy_helper

from tvm_conv3dt.measure.peers.problem import Problem

__all__ = ["model"]

_OPERATORS = {
    "relu": "Relu",
    "leaky_relu": "LeakyRelu",
    "elu": "Elu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
}

# Old enough for any runtime that is still installed; of what is here only bfloat16 is newer.
_OPSET, _IR_VERSION = 17, 8
_BFLOAT16_OPSET, _BFLOAT16_IR_VERSION = 22, 10


def model(problem: Problem) -> bytes:
    """Return the model: input `x` and output `y` in NCDHW, filters and bias as constants.

    ONNX takes TensorFlow's padding as it is, and explicit padding too: what is cut off differs at the two ends, and zeros at the end
    are `output_padding`.
    """
    workload = problem.workload
    constants = [numpy_helper.from_array(problem.filters_by_channels, "filters")]
    if problem.bias is not None:
        constants.append(numpy_helper.from_array(problem.bias, "bias"))
    layer = helper.make_node(
        "ConvTranspose",
        ["x", *(constant.name for constant in constants)],
        ["sums" if workload.activation else "y"],
        kernel_shape=workload.kernel,
        strides=workload.strides,
        dilations=workload.dilations,
        pads=[*workload.pad_before, *(max(0, after) for after in problem.pad_after)],
        output_padding=[max(0, -after) for after in problem.pad_after],
    )
    nodes = [layer]
    if workload.activation:
        alpha = {} if workload.alpha is None else {"alpha": workload.alpha}
        nodes.append(helper.make_node(_OPERATORS[workload.activation], ["sums"], ["y"], **alpha))
    element = helper.np_dtype_to_tensor_dtype(workload.numpy_dtype)
    assert element != TensorProto.UNDEFINED
    shapes = {
        "x": (workload.batch, workload.in_channels, *workload.input_spatial),
        "y": (workload.batch, workload.out_channels, *workload.output_spatial),
    }
    x, y = (helper.make_tensor_value_info(name, element, shape) for name, shape in shapes.items())
    newer = element == TensorProto.BFLOAT16
    result = helper.make_model(
        helper.make_graph(nodes, "layer", [x], [y], constants),
        opset_imports=[helper.make_opsetid("", _BFLOAT16_OPSET if newer else _OPSET)],
        ir_version=_BFLOAT16_IR_VERSION if newer else _IR_VERSION,
    )
    checker.check_model(result)
    data: bytes = result.SerializeToString()
    return data
