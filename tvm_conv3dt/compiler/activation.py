"""Activations, as expressions of one float32 element that LLVM can compute a vector at a time.

The exponential function of the C library works on one number at a time, and would take longer than the
convolution in front of it. The one here is a polynomial after the usual reduction: ``exp(x) = 2**k * exp(r)``
with ``k = round(x / ln 2)`` and ``|r| <= ln 2 / 2``; its Taylor series to the seventh power is exact to
float32's rounding there.
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial
from typing import Any

from tvm import tirx

from tvm_conv3dt.spec import Workload

__all__ = ["EXPENSIVE", "activation_of", "exp", "expm1"]

EXPENSIVE = ("elu", "sigmoid", "tanh")
"""Activations that take an exponential, and are not exact on integers."""

_LOG2_E = 1.4426950408889634
# ln 2 in two parts; products of the first, which has few bits, with k are exact.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440054690583e-4
_DEGREE = 7
# Between these neither the result nor 2**k leaves the normal numbers; beyond, NaN apart, they stand for x.
_LEAST, _LARGEST = -87.3, 88.0


def activation_of(workload: Workload) -> Callable[[Any], Any]:
    """Return the activation of a float32 workload as a function of an expression."""
    alpha = _float(workload.alpha or 0.0)
    zero, one, two = _float(0), _float(1), _float(2)

    def relu(value: Any) -> Any:
        # Not max, which would turn NaN into zero.
        return tirx.Select(value < zero, zero, value)

    def leaky_relu(value: Any) -> Any:
        return tirx.Select(value > zero, value, value * alpha)

    def elu(value: Any) -> Any:
        return tirx.Select(value > zero, value, alpha * expm1(value))

    def sigmoid(value: Any) -> Any:
        return one / (one + exp(-value))

    def tanh(value: Any) -> Any:
        change = expm1(-two * tirx.abs(value))
        size = -change / (two + change)
        return tirx.Select(value < zero, -size, size)

    functions: dict[str | None, Callable[[Any], Any]] = {
        None: lambda value: value,
        "relu": relu,
        "leaky_relu": leaky_relu,
        "elu": elu,
        "sigmoid": sigmoid,
        "tanh": tanh,
    }
    return functions[workload.activation]


def exp(x: Any) -> Any:
    """Return ``exp(x)`` of a float32 expression.

    Below -87.3 and above 88 it is what it is there, 1.2e-38 and 1.7e38; NaN stays NaN.
    """
    x = tirx.Select(x < _float(_LEAST), _float(_LEAST), x)
    x = tirx.Select(x > _float(_LARGEST), _float(_LARGEST), x)
    k = tirx.floor(x * _float(_LOG2_E) + _float(0.5))
    r = x - k * _float(_LN2_HIGH) - k * _float(_LN2_LOW)
    series = _float(1 / factorial(_DEGREE))
    for power in reversed(range(_DEGREE)):
        series = series * r + _float(1 / factorial(power))
    exponent = tirx.Cast("int32", k) + tirx.const(127, "int32")
    scale = tirx.reinterpret("float32", tirx.shift_left(exponent, tirx.const(23, "int32")))
    return series * scale


def expm1(x: Any) -> Any:
    """Return ``exp(x) - 1`` of a float32 expression, with most digits right also where it is small."""
    one = _float(1)
    near_zero = x * (one + x * (_float(1 / 2) + x * _float(1 / 6)))
    return tirx.Select(tirx.abs(x) < _float(0.02), near_zero, exp(x) - one)


def _float(value: float) -> Any:
    return tirx.const(value, "float32")
