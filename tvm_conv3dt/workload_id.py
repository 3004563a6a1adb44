"""A workload's id: one string for file names, command lines, logs and symbols, there and back.

``n1_x16x16x16x256_k2x2x2_y32x32x32x128_s2x2x2_d1x1x1_valid_f32_ndhwc``: batch; the input's depth, height,
width and channels; kernel; the output likewise; strides; dilations; padding; dtype; data format; then ``_bias``
and the activation with its alpha, where there are any. Every field is always there, in this order. A padding that
has no name is written in numbers, as ``p1x0x1``. A precision follows its dtype, as ``f32pbf16`` or ``f16pf16``: one word, which
is no other dtype's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tvm_conv3dt.errors import WorkloadError, describe, show

if TYPE_CHECKING:
    from tvm_conv3dt.spec import Workload

__all__ = ["is_like", "parse", "render"]

_SHORT = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16"}
_LONG = {short: long for long, short in _SHORT.items()}

# More digits than any legal size has, and few enough that Python converts them.
_INT = "[0-9]{1,19}"
_PATTERN = re.compile(
    rf"n(?P<batch>{_INT})"
    rf"_x(?P<input>{_INT}(?:x{_INT}){{3}})"
    rf"_k(?P<kernel>{_INT}(?:x{_INT}){{2}})"
    rf"_y(?P<output>{_INT}(?:x{_INT}){{3}})"
    rf"_s(?P<strides>{_INT}(?:x{_INT}){{2}})"
    rf"_d(?P<dilations>{_INT}(?:x{_INT}){{2}})"
    rf"_(?P<padding>same|valid|p{_INT}(?:x{_INT}){{2}})"
    rf"_(?P<dtype>{'|'.join(_LONG)})(?:p(?P<precision>{'|'.join(_LONG)}))?"
    r"_(?P<data_format>ndhwc|ncdhw)"
    r"(?P<bias>_bias)?"
    r"(?:_(?P<activation>relu|leaky_relu|elu|sigmoid|tanh)(?P<alpha>m?[0-9]+(?:p[0-9]+)?(?:em?[0-9]+)?)?)?",
)
_LIKE = re.compile(rf"n{_INT}_x{_INT}x")


def render(workload: Workload) -> str:
    """Return the id of a workload."""

    def join(*values: int) -> str:
        return "x".join(str(value) for value in values)

    parts = [
        f"n{workload.batch}",
        "x" + join(*workload.input_spatial, workload.in_channels),
        "k" + join(*workload.kernel),
        "y" + join(*workload.output_spatial, workload.out_channels),
        "s" + join(*workload.strides),
        "d" + join(*workload.dilations),
        _render_padding(workload.padding),
        _SHORT[workload.dtype] + _render_precision(workload.precision),
        workload.data_format.lower(),
    ]
    if workload.bias:
        parts.append("bias")
    if workload.activation is not None:
        parts.append(workload.activation + _render_alpha(workload.alpha))
    return "_".join(parts)


def is_like(text: str) -> bool:
    """Whether a text is meant as an id, right or wrong: it begins like one."""
    return _LIKE.match(text) is not None


def parse(text: str) -> dict[str, Any]:
    """Return the arguments that an id stands for, by the names of `Workload.make`.

    Parameters
    ----------
    text : str
        The id. Only its form is checked here: `Workload.from_id` checks the rest.

    Returns
    -------
    dict
        All arguments of `Workload.make`.

    Raises
    ------
    WorkloadError
        If the text does not have an id's form.
    """
    match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise WorkloadError(
            describe("read", "workload id", show(text), f"an id looks like {_EXAMPLE}")
        )
    part = match.groupdict()
    *input_spatial, in_channels = _ints(part["input"])
    *output_spatial, out_channels = _ints(part["output"])
    batch = int(part["batch"])
    data_format = part["data_format"].upper()

    def shape(spatial: list[int], channels: int) -> list[int]:
        last = data_format == "NDHWC"
        return [batch, *spatial, channels] if last else [batch, channels, *spatial]

    alpha = None
    if part["alpha"] is not None:
        alpha = float(part["alpha"].replace("p", ".").replace("m", "-"))
    return {
        "input": shape(input_spatial, in_channels),
        "filters": [*_ints(part["kernel"]), out_channels, in_channels],
        "output_shape": shape(output_spatial, out_channels),
        "strides": _ints(part["strides"]),
        "padding": _parse_padding(part["padding"]),
        "data_format": data_format,
        "dilations": _ints(part["dilations"]),
        "dtype": _LONG[part["dtype"]],
        "bias": part["bias"] is not None,
        "activation": part["activation"],
        "alpha": alpha,
        "precision": None if part["precision"] is None else _LONG[part["precision"]],
    }


_EXAMPLE = "n1_x16x16x16x256_k2x2x2_y32x32x32x128_s2x2x2_d1x1x1_valid_f32_ndhwc"


def _render_alpha(alpha: float | None) -> str:
    # The shortest digits that give the same float back, in characters that an identifier may have.
    if alpha is None:
        return ""
    return repr(alpha).replace(".", "p").replace("-", "m").replace("+", "")


def _render_precision(precision: str | None) -> str:
    return "" if precision is None else "p" + _SHORT[precision]


def _render_padding(padding: str | tuple[int, int, int]) -> str:
    return padding.lower() if isinstance(padding, str) else "p" + "x".join(map(str, padding))


def _parse_padding(text: str) -> str | list[int]:
    return _ints(text[1:]) if text[0] == "p" else text.upper()


def _ints(text: str) -> list[int]:
    return [int(digits) for digits in text.split("x")]
