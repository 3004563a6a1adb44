"""Activations, as expressions of one element; for CPUs, such as LLVM can compute a vector at a time.

On GPUs each thread computes one number, by CUDA's library. On CPUs the exponential function of the C library works on one number at a time, and would take longer than the
convolution in front of it. The one here is a polynomial after the usual reduction: ``exp(x) = 2**k * exp(r)``
with ``k = round(x / ln 2)`` and ``|r| <= ln 2 / 2``; its Taylor series, to the seventh power in float32 and to the
thirteenth in float64, is exact to the dtype's rounding there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import factorial
from typing import Any

from tvm import tirx

from tvm_conv3dt.compiler.sharing import shared
from tvm_conv3dt.spec import Workload

__all__ = ["EXPENSIVE", "activation_of", "exp", "expm1"]

EXPENSIVE = ("elu", "sigmoid", "tanh")
"""Activations that take an exponential, and are not exact on integers."""

_LOG2_E = 1.4426950408889634


@dataclass(frozen=True)
class _Format:
    """What the exponential must know of a floating-point format.

    Attributes
    ----------
    integer : str
        The integer type of its width.
    mantissa_bits, bias : int
        Of the format.
    degree : int
        Of the series.
    ln2_high, ln2_low : float
        ln 2 in two parts; products of the first, which has few bits, with k are exact.
    least, largest : float
        Between these neither the result nor 2**k leaves the normal numbers; beyond, NaN apart, they stand for x.
    small : float
        Below it the difference of an exponential from one is better taken from the series of the difference.
    """

    integer: str
    mantissa_bits: int
    bias: int
    degree: int
    ln2_high: float
    ln2_low: float
    least: float
    largest: float
    small: float
    small_degree: int


_FORMATS = {
    "float32": _Format(
        *("int32", 23, 127, 7, 0.693359375, -2.12194440054690583e-4),
        *(-87.3, 88.0, 0.02, 3),
    ),
    "float64": _Format(
        *("int64", 52, 1023, 13, 0.693145751953125, 1.42860682030941723212e-6),
        *(-708.3, 709.0, 0.05, 10),
    ),
}


def activation_of(workload: Workload, math_library: bool = False) -> Callable[[Any], Any]:
    """Return the activation of a workload as a function of an expression of its sums' dtype.

    Parameters
    ----------
    workload : Workload
    math_library : bool
        Whether to call functions that have C's names, and not to write out what they compute.
    """
    dtype = workload.sum_dtype
    alpha = tirx.const(workload.alpha or 0.0, dtype)
    zero, one = (tirx.const(number, dtype) for number in (0, 1))

    def function(name: str, written_out: Callable[[Any, str], Any]) -> Callable[[Any], Any]:
        if not math_library:
            return lambda x: written_out(x, dtype)
        return lambda x: tirx.call_pure_extern(dtype, name if dtype == "float64" else f"{name}f", x)

    def relu(value: Any) -> Any:
        # Not max, which would turn NaN into zero.
        return tirx.Select(value < zero, zero, value)

    def leaky_relu(value: Any) -> Any:
        return tirx.Select(value > zero, value, value * alpha)

    def elu(value: Any) -> Any:
        return tirx.Select(value > zero, value, alpha * function("expm1", expm1)(value))

    def sigmoid(value: Any) -> Any:
        return one / (one + function("exp", exp)(-value))

    def tanh(value: Any) -> Any:
        return function("tanh", _tanh)(value)

    functions: dict[str | None, Callable[[Any], Any]] = {
        None: lambda value: value,
        "relu": relu,
        "leaky_relu": leaky_relu,
        "elu": elu,
        "sigmoid": sigmoid,
        "tanh": tanh,
    }
    return functions[workload.activation]


def exp(x: Any, dtype: str) -> Any:
    """Return ``exp(x)`` of an expression of `dtype`, float32 or float64.

    Where the result would leave the normal numbers it is the least or the largest that does not, about; NaN stays NaN.
    """
    form = _FORMATS[dtype]

    def number(value: float) -> Any:
        return tirx.const(value, dtype)

    def clamped(x: Any) -> Any:
        x = tirx.Select(x < number(form.least), number(form.least), x)
        return tirx.Select(x > number(form.largest), number(form.largest), x)

    def reduced(x: Any) -> Any:
        k = tirx.floor(x * number(_LOG2_E) + number(0.5))
        return shared("k", dtype, k, lambda k: with_rest(x, k))

    def with_rest(x: Any, k: Any) -> Any:
        rest = x - k * number(form.ln2_high) - k * number(form.ln2_low)
        return shared("r", dtype, rest, series) * power_of_two(k)

    def series(r: Any) -> Any:
        total = number(1 / factorial(form.degree))
        for power in reversed(range(form.degree)):
            total = total * r + number(1 / factorial(power))
        return total

    def power_of_two(k: Any) -> Any:
        exponent = tirx.Cast(form.integer, k) + tirx.const(form.bias, form.integer)
        bits = tirx.shift_left(exponent, tirx.const(form.mantissa_bits, form.integer))
        return tirx.reinterpret(dtype, bits)

    return shared("x", dtype, x, lambda x: shared("clamped", dtype, clamped(x), reduced))


def expm1(x: Any, dtype: str) -> Any:
    """Return ``exp(x) - 1`` of an expression of `dtype`, with most digits right also where it is small."""
    form = _FORMATS[dtype]
    one = tirx.const(1, dtype)

    def difference(x: Any) -> Any:
        near_zero = tirx.const(1 / factorial(form.small_degree), dtype)
        for power in reversed(range(1, form.small_degree)):
            near_zero = near_zero * x + tirx.const(1 / factorial(power), dtype)
        small = tirx.abs(x) < tirx.const(form.small, dtype)
        return tirx.Select(small, near_zero * x, exp(x, dtype) - one)

    return shared("x", dtype, x, difference)


def _tanh(x: Any, dtype: str) -> Any:
    zero, two = (tirx.const(number, dtype) for number in (0, 2))

    def size(x: Any) -> Any:
        change = expm1(-two * tirx.abs(x), dtype)
        return shared("change", dtype, change, lambda change: -change / (two + change))

    def signed(x: Any) -> Any:
        return shared("size", dtype, size(x), lambda size: tirx.Select(x < zero, -size, size))

    return shared("x", dtype, x, signed)
