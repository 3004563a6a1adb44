"""ONNX's `ConvTranspose`.

Where the specification leaves something open, ONNX Runtime's reading is taken: with ``auto_pad`` SAME and a kernel
that is smaller than the stride nothing is cut off, and the output ends with the last tap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tvm_conv3dt import arguments
from tvm_conv3dt.arguments import refuse
from tvm_conv3dt.errors import (
    ArgumentTypeError,
    ArrayError,
    UnsupportedError,
    WorkloadError,
    describe,
    show,
)
from tvm_conv3dt.forms.conv_transpose import Array, ConvTranspose, assemble, constant
from tvm_conv3dt.forms.geometry import (
    Triple,
    check_output_padding,
    count,
    output_sizes,
    reach,
    triple,
)

__all__ = ["from_onnx"]

# Name -> the type that AttributeProto gives it, and the field of that type.
_INT, _STRING, _INTS = (2, "i"), (3, "s"), (7, "ints")
_ATTRIBUTES = {
    "auto_pad": _STRING,
    "dilations": _INTS,
    "group": _INT,
    "kernel_shape": _INTS,
    "output_padding": _INTS,
    "output_shape": _INTS,
    "pads": _INTS,
    "strides": _INTS,
}
_AUTO_PADS = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


def from_onnx(
    node: Any,
    input_shape: Any,
    initializers: Any,
    *,
    data_format: str = "NCDHW",
    precision: str | None = None,
) -> ConvTranspose:
    """Return a node `ConvTranspose` of an ONNX graph for inputs of one shape.

    Parameters
    ----------
    node : onnx.NodeProto
        With three spatial axes.
    input_shape : sequence of 5 int
        Of the node's input X, whatever the `data_format`: ``[batch, channels, depth, height, width]``.
    initializers : mapping or iterable
        The constants of the graph, W and where there is one B among them: arrays or onnx.TensorProto by name,
        or TensorProto that have names, such as ``graph.initializer``.
    data_format : str
        Of the arrays that the operator takes and returns: ``"NCDHW"``, which is ONNX's, or ``"NDHWC"``.
    precision : str, optional
        ``"bfloat16"`` permits products of factors rounded to bfloat16, of a weight of float32, and ``"float32"`` forbids what is done
        without a precision; ``"float16"`` permits sums in float16, of a weight of float16; see `Workload`.

    Returns
    -------
    ConvTranspose
        The workload of one group, with filters and bias.

    Raises
    ------
    ArgumentTypeError
        If something has a wrong type.
    UnsupportedError
        If the node is another operator, has an attribute that `ConvTranspose` has not, or another number of axes.
    WorkloadError
        If attributes and shapes do not go together, W or B is no constant, or there is a precision for another dtype
        than its own.
    ArrayError
        If B has another shape, or values are not to be had.
    """
    values = _attributes(node)
    weight, bias = _constants(node, initializers)
    shape = _entries("input_shape", input_shape, 1)
    if len(shape) != 5 or weight.ndim != 5:
        rule = "only ConvTranspose of three spatial axes is compiled"
        given = f"input_shape={list(shape)} and {node.input[1]} of shape {list(weight.shape)}"
        raise UnsupportedError(describe("read", "ONNX node", given, rule))
    kernel = weight.shape[2:]
    if "kernel_shape" in values and _entries("kernel_shape", values["kernel_shape"], 1) != kernel:
        rule = f"the weight's is {list(kernel)}"
        raise refuse("kernel_shape", list(values["kernel_shape"]), rule)
    strides, dilations = _triple(values, "strides", 1), _triple(values, "dilations", 1)
    extra = _triple(values, "output_padding", 0)
    check_output_padding(extra, strides, dilations)
    reached = reach(shape[2:], kernel, strides, dilations)
    before, output = _padding(values, shape[2:], strides, extra, reached)
    groups = count("group", values.get("group", 1))
    return assemble(
        weight,
        bias,
        groups,
        shape,
        output,
        strides,
        before,
        dilations,
        data_format,
        precision=precision,
    )


def _padding(
    values: Mapping[str, Any],
    spatial: Sequence[int],
    strides: Triple,
    extra: Triple,
    reached: Triple,
) -> tuple[Triple, Triple]:
    """Return what is cut off before each axis, and the output's sizes."""
    mode = arguments.choice("auto_pad", values.get("auto_pad", "NOTSET"), _AUTO_PADS)
    pads: tuple[int, ...] = (0,) * 6
    if "pads" in values:
        if mode != "NOTSET":
            raise refuse("pads", list(values["pads"]), f"auto_pad={mode} is given as well")
        pads = arguments.integers("pads", values["pads"], (6,), 0)
    wanted: tuple[int, ...] | None = None
    if "output_shape" in values:
        wanted = arguments.integers("output_shape", values["output_shape"], (3,), 1)
    elif mode.startswith("SAME"):
        wanted = tuple(size * stride for size, stride in zip(spatial, strides, strict=True))
    if wanted is None:
        before = pads[0], pads[1], pads[2]
        return before, output_sizes(reached, before, pads[3:], extra)
    # The attribute pads does not count then.
    cut = [max(0, r + e - o) for r, e, o in zip(reached, extra, wanted, strict=True)]
    depth, height, width = (c // 2 if mode == "SAME_UPPER" else c - c // 2 for c in cut)
    before = depth, height, width
    if "output_shape" not in values:
        after = [c - b for c, b in zip(cut, before, strict=True)]
        return before, output_sizes(reached, before, after, extra)
    depth, height, width = wanted
    return before, (depth, height, width)


def _attributes(node: Any) -> dict[str, Any]:
    """Return the attributes by name, as Python's values."""
    if not all(hasattr(node, name) for name in ("op_type", "domain", "input", "attribute")):
        rule = "it must be an onnx.NodeProto"
        raise ArgumentTypeError(describe("read", "ONNX node", show(node), rule))
    if node.op_type != "ConvTranspose" or node.domain not in ("", "ai.onnx"):
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        rule = "only ConvTranspose of ONNX's own domain is compiled"
        raise UnsupportedError(describe("read", "ONNX node", f"op_type={name}", rule))
    values = {}
    for attribute in node.attribute:
        kind, field = _ATTRIBUTES.get(attribute.name, (0, ""))
        if not field:
            rule = f"ConvTranspose has {', '.join(_ATTRIBUTES)}"
            given = f"attribute {attribute.name}"
            raise UnsupportedError(describe("read", "ONNX node", given, rule))
        if attribute.type != kind or attribute.ref_attr_name:
            rule = "it must be a value of the type that ConvTranspose says"
            given = f"attribute {attribute.name} of type {attribute.type}"
            raise ArgumentTypeError(describe("read", "ONNX node", given, rule))
        value = getattr(attribute, field)
        values[attribute.name] = value.decode(errors="replace") if field == "s" else value
    return values


def _constants(node: Any, initializers: Any) -> tuple[Array, Array | None]:
    """Return W, and B where the node has one."""
    names = list(node.input)
    if len(names) not in (2, 3) or not names[1]:
        rule = "it takes X, W and optionally B"
        raise WorkloadError(describe("read", "ONNX node", f"inputs {show(names)}", rule))
    if isinstance(initializers, Mapping):
        known = dict(initializers)
    elif isinstance(initializers, Iterable) and not isinstance(initializers, (str, bytes)):
        known = {getattr(each, "name", None): each for each in initializers}
    else:
        rule = "they must be arrays by name, or TensorProto"
        raise ArgumentTypeError(describe("read", "initializers", show(initializers), rule))
    found: list[Array | None] = []
    for name in names[1:]:
        if name and name not in known:
            rule = "W and B must be constants, and no initializer has this name"
            raise WorkloadError(describe("read", "ONNX node", f"input {show(name)}", rule))
        found.append(_array(name, known[name]) if name else None)
    weight, bias = (*found, None)[:2]
    assert weight is not None
    return weight, bias


def _array(name: str, value: Any) -> Array:
    if hasattr(value, "data_type") and hasattr(value, "dims"):
        from onnx import numpy_helper

        try:
            value = numpy_helper.to_array(value)
        except Exception as error:  # a tensor in a file of its own, a damaged one
            rule = f"its values cannot be read ({error})"
            mend = "read the model with onnx.load, which also loads external data"
            raise ArrayError(
                describe("use", f"array {name}", type(value).__name__, rule, mend)
            ) from error
    return constant(name, value)


def _triple(values: Mapping[str, Any], name: str, least: int) -> Triple:
    if name not in values:
        return least, least, least
    arguments.integers(name, values[name], (3,), least)
    return triple(name, values[name], least)


def _entries(field: str, value: Any, least: int) -> tuple[int, ...]:
    # Any rank that ONNX knows: what has not three spatial axes is refused as such.
    return arguments.integers(field, value, tuple(range(1, 16)), least)
