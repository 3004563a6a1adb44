"""Callers' arrays made fit for compiled code, or refused.

Compiled code takes C-contiguous arrays of the exact shape, in native byte order, aligned to their elements, and
bfloat16 as 16-bit integers. An array that is none of this is copied; one that is all of it is used where it lies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tvm_ffi

from tvm_conv3dt import memory
from tvm_conv3dt.errors import ArgumentTypeError, ArrayError, describe
from tvm_conv3dt.runtime import frameworks

__all__ = ["check_output", "check_target", "direct", "is_direct", "tensor", "view"]

Array = npt.NDArray[Any]

# How many candidates to look at for an element that two strided arrays share, before they count as sharing one.
_OVERLAP_WORK: Any = 10_000  # NumPy's stubs know two values of it only


def view(name: str, value: object, dtype: np.dtype[Any]) -> Array:
    """Return `value` as a NumPy array of `dtype`, in either byte order and with any strides.

    Parameters
    ----------
    name : str
        The argument's name, for messages.
    value : array-like
        What `frameworks.to_numpy` takes.
    dtype : numpy.dtype
        The only element type accepted.

    Returns
    -------
    numpy.ndarray
        The same memory, as `frameworks.to_numpy` says.

    Raises
    ------
    ArgumentTypeError
        If it is no array, or of another element type.
    ArrayError, UnsupportedError
        As `frameworks.to_numpy`.
    """
    array = frameworks.to_numpy(name, value)
    given = array.dtype
    number = given.kind in "biufO" or given.isbuiltin == 2
    turned = number and given.isbuiltin != 2 and given.newbyteorder("=") == dtype
    if given != dtype and not turned:
        mend = frameworks.conversion(name, value, dtype) if number else ""
        rule = f"this workload takes {dtype}"
        raise ArgumentTypeError(describe("use", f"array {name}", f"dtype={given}", rule, mend))
    return array


def direct(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array of `view` C-contiguous, aligned and in native byte order: itself, or else a copy."""
    if array.dtype == dtype and is_direct(array):
        return array
    copy = memory.aligned_empty(array.shape, dtype)
    copy[...] = array
    return copy


def is_direct(array: Array) -> bool:
    """Whether compiled code may use the array's memory as it is (its dtype and shape apart)."""
    flags = array.flags
    return flags.c_contiguous and flags.aligned


def check_output(
    out: object, shape: tuple[int, ...], dtype: np.dtype[Any], x: Array | None
) -> Array:
    """Return `out` as a NumPy array if a result can be written to it.

    Parameters
    ----------
    out : array
        The caller's: NumPy's, PyTorch's, or one that exports writable memory by DLPack. It may have any strides.
    shape, dtype
        What it must have.
    x : numpy.ndarray or None
        The caller's input, as `view` returns it, where it is in the CPU's memory.

    Returns
    -------
    numpy.ndarray
        Over the memory of `out`.

    Raises
    ------
    ArgumentTypeError
        If it is no array, or of another element type or byte order.
    ArrayError
        If it has another shape, is read-only, lies over `x` or over itself, or as `frameworks.to_numpy`.
    """
    array = frameworks.to_numpy("out", out, in_place=True)
    if array.dtype != dtype:
        rule = f"this workload gives {dtype} in native byte order"
        raise ArgumentTypeError(describe("write to", "array out", f"dtype={array.dtype.str}", rule))
    check_target(array, shape, x)
    return array


def check_target(array: Array, shape: tuple[int, ...], x: Array | None) -> None:
    """Check an array to write to, as `check_output`, but for its dtype; no element is looked at.

    Raises
    ------
    ArrayError
        As `check_output`.
    """
    if array.shape != shape:
        raise _unfit(f"shape={list(array.shape)}", f"this call gives the shape {list(shape)}")
    if not array.flags.writeable:
        raise _unfit("writeable=False", "it must be writable")
    if not _is_spread(array):
        rule = "its elements must lie apart, as those of slices and transposes do"
        raise _unfit(f"strides={list(array.strides)}", rule)
    if x is not None and _overlap(x, array):
        rule = "it must not share memory with the input"
        raise _unfit(f"shape={list(array.shape)}", rule)


def tensor(array: Array) -> Any:
    """Return a C-contiguous array as a tensor of tvm-ffi, over the same memory; bfloat16 as uint16."""
    array = memory.stored(array)
    # NumPy does not export a read-only array to consumers that cannot be told so. Compiled
    # code only reads its inputs, so the memory goes out under a writable name.
    return tvm_ffi.from_dlpack(array if array.flags.writeable else np.asarray(_Unlocked(array)))


class _Unlocked:
    """A writable view of a read-only array, by NumPy's array interface; it keeps the array alive."""

    def __init__(self, array: Array) -> None:
        self._array = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def _unfit(value: str, rule: str) -> ArrayError:
    return ArrayError(describe("write to", "array out", value, rule))


def _is_spread(array: Array) -> bool:
    """Whether each axis steps over all that the axes of smaller steps span, so that no element lies over another."""
    if array.flags.c_contiguous:
        return True
    span = array.itemsize
    steps = ((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1)
    for step, size in sorted(steps):
        if step < span:
            return False
        span = step * (size - 1) + span
    return True


def _overlap(a: Array, b: Array) -> bool:
    if not np.may_share_memory(a, b):  # by their bounds
        return False
    if a.flags.c_contiguous and b.flags.c_contiguous:
        return True
    try:
        return np.shares_memory(a, b, max_work=_OVERLAP_WORK)
    except np.exceptions.TooHardError:
        return True
