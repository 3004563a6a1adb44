"""What the right answer is: the operator in NumPy and float64, and data to compare it on.

Written straight from the definition, tap by tap, and apart from what the compiler does: the two have no
arithmetic in common, so that a mistake in one shows.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tvm_conv3dt.errors import ArrayError, describe, show
from tvm_conv3dt.spec import FLOAT16_TERMS, Workload

__all__ = ["integer_data", "random_data", "reference", "rounded"]

# Every integer below this is a float32, and every half: sums that stay below are exact in any order.
_EXACT = 2**23
_EXACT_FLOAT16 = 2**11  # the like of float16, and itself one
_LARGEST_INTEGER = 8

Data = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]


def reference(
    workload: Workload, x: ArrayLike, filters: ArrayLike, bias: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return the operator's result in float64.

    ``output[o] = sum of input[i] * filters[t] over i, t with o + pad_before == stride * i + dilation * t``,
    then bias, then activation. Taps that reach nothing add nothing, and positions that no tap
    reaches are zero, also where NaN or infinities are near.

    Parameters
    ----------
    workload : Workload
        Its dtype does not matter but for `alpha`, which is rounded to what kernels compute in
        (float32, or float64 for float64): a leaky ReLU of exact sums is then exact too.
    x : array_like
        The input, of shape ``workload.input``.
    filters : array_like
        Of shape ``workload.filters``: ``[kd, kh, kw, out_channels, in_channels]``.
    bias : array_like, optional
        Of shape ``[out_channels]``; given if and only if the workload has a bias.

    Returns
    -------
    ndarray of float64
        Of shape ``workload.output_shape``.

    Raises
    ------
    ArrayError
        If an array has another shape, or there is a bias too many or too few.
    """
    channels_first = workload.data_format == "NCDHW"
    volume = _float64("input", x, workload.input)
    weights = _float64("filters", filters, workload.filters)
    if channels_first:
        volume = np.ascontiguousarray(np.moveaxis(volume, 1, -1))
    if (bias is None) == workload.bias:
        given, has = ("no bias", "one") if bias is None else ("a bias", "none")
        raise ArrayError(describe("compute", "reference", given, f"the workload has {has}"))
    with np.errstate(all="ignore"):  # NaN and infinities are data here, no reason to warn
        y = _scatter(workload, volume, weights)
        if bias is not None:
            y += _float64("bias", bias, (workload.out_channels,))
        y = _activate(workload, y)
    return np.ascontiguousarray(np.moveaxis(y, -1, 1)) if channels_first else y


def rounded(workload: Workload, result: NDArray[np.float64]) -> NDArray[Any]:
    """Return what `reference` gave in the type of the arrays, rounded as kernels do: in the type of sums first.

    An activation's slope rounds there once, before the half types do.
    """
    return result.astype(workload.sum_dtype).astype(workload.numpy_dtype)


def integer_data(workload: Workload, seed: int) -> Data:
    """Return small integers on which kernels must be exact.

    No sum of products of any subset, with the bias, reaches 2**23: float32 accumulators are exact
    in any order, and of halves of the products too. Where float16 arithmetic is permitted, nor does any sum of
    `FLOAT16_TERMS` products pass 2**11. No element of the input is zero.

    Parameters
    ----------
    workload : Workload
        Gives shapes and dtype.
    seed : int
        The same seed gives the same data.

    Returns
    -------
    tuple of (ndarray, ndarray, ndarray or None)
        Input, filters and bias, of the workload's dtype; no bias where the workload has none.
    """
    rng = np.random.default_rng(seed)
    dtype = workload.numpy_dtype
    # At most this many products meet in one output; taps beyond the input's size never meet.
    terms = workload.in_channels * math.prod(
        min(axis) for axis in zip(workload.kernel, workload.input_spatial, strict=True)
    )
    # largest**2 * terms for the products, largest for the bias
    largest = min(_LARGEST_INTEGER, math.isqrt((_EXACT - 1 - _LARGEST_INTEGER) // terms))
    if workload.precision == "float16":
        largest = min(largest, math.isqrt(_EXACT_FLOAT16 // min(terms, FLOAT16_TERMS)))

    def draw(shape: tuple[int, ...]) -> NDArray[Any]:
        magnitude = rng.integers(1, max(largest, 1), shape, dtype=np.int8, endpoint=True)
        sign = rng.integers(0, 1, shape, dtype=np.int8, endpoint=True) * 2 - 1
        return (magnitude * sign).astype(dtype)

    x, filters = draw(workload.input), draw(workload.filters)
    if largest == 0:
        # Too many terms even for ones: only every so many filter elements of an output channel stay.
        every = -(-math.prod(workload.kernel) * workload.in_channels // (_EXACT // 2))
        tap = np.arange(math.prod(workload.kernel)).reshape(*workload.kernel, 1, 1)
        element = tap * workload.in_channels + np.arange(workload.in_channels)
        filters = np.where(element % every == 0, filters, np.zeros((), dtype))
    return x, filters, draw((workload.out_channels,)) if workload.bias else None


def random_data(workload: Workload, seed: int) -> Data:
    """Return normally distributed data whose results are of the order of 1.

    Parameters
    ----------
    workload : Workload
        Gives shapes and dtype.
    seed : int
        The same seed gives the same data.

    Returns
    -------
    tuple of (ndarray, ndarray, ndarray or None)
        As `integer_data`.
    """
    rng = np.random.default_rng(seed)
    kind = np.float64 if workload.dtype == "float64" else np.float32

    def draw(shape: tuple[int, ...], scale: float) -> NDArray[Any]:
        values = rng.standard_normal(shape, dtype=kind)
        values *= scale
        return values.astype(workload.numpy_dtype, copy=False)

    x = draw(workload.input, 1.0)
    filters = draw(workload.filters, 1 / math.sqrt(workload.in_channels))
    return x, filters, draw((workload.out_channels,), 1.0) if workload.bias else None


def _float64(name: str, array: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    values = np.asarray(array)
    if values.shape != shape:
        raise ArrayError(
            describe(
                "compute",
                "reference",
                f"{name} of shape {show(list(values.shape))}",
                f"the workload's {name} has shape {show(list(shape))}",
            )
        )
    return values.astype(np.float64)


def _scatter(
    workload: Workload, x: NDArray[np.float64], filters: NDArray[np.float64]
) -> NDArray[np.float64]:
    rows = x.reshape(-1, workload.in_channels)
    y = np.zeros((workload.batch, *workload.output_spatial, workload.out_channels))
    reaches = [_reach(workload, index) for index in range(3)]
    for taps in itertools.product(*(range(size) for size in workload.kernel)):
        hits = [reach[tap] for reach, tap in zip(reaches, taps, strict=True)]
        if any(hit is None for hit in hits):
            continue
        kept, landed = zip(*(hit for hit in hits if hit is not None), strict=True)
        read, written = (slice(None), *kept), (slice(None), *landed)
        # All rows, also those that fall outside: one large product is faster than a sliced copy.
        product = (rows @ filters[taps].T).reshape(*x.shape[:4], workload.out_channels)
        y[written] += product[read]
    return y


def _reach(workload: Workload, index: int) -> list[tuple[slice, slice] | None]:
    """For each tap of one axis, the input positions that reach an output, and the outputs they reach."""
    size, output = workload.input_spatial[index], workload.output_spatial[index]
    kernel, stride = workload.kernel[index], workload.strides[index]
    dilation, pad = workload.dilations[index], workload.pad_before[index]
    result: list[tuple[slice, slice] | None] = []
    for tap in range(kernel):
        start = dilation * tap - pad  # where input 0 lands
        first = max(0, -(start // stride))
        last = min(size - 1, (output - 1 - start) // stride)
        if first > last:
            result.append(None)
            continue
        landing = slice(start + stride * first, start + stride * last + 1, stride)
        result.append((slice(first, last + 1), landing))
    return result


def _activate(workload: Workload, y: NDArray[np.float64]) -> NDArray[np.float64]:
    alpha = workload.alpha or 0.0
    if workload.dtype != "float64":
        alpha = float(np.float32(alpha))
    if workload.activation == "relu":
        return np.maximum(y, 0.0)
    if workload.activation == "leaky_relu":
        return np.where(y > 0, y, alpha * y)
    if workload.activation == "elu":
        return np.where(y > 0, y, alpha * np.expm1(np.minimum(y, 0.0)))
    if workload.activation == "sigmoid":
        return np.asarray(np.exp(-np.logaddexp(0.0, -y)))
    if workload.activation == "tanh":
        return np.tanh(y)
    return y
