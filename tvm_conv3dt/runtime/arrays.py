"""Callers' arrays made fit for compiled code, or refused.

Compiled code takes C-contiguous arrays of the exact shape, in native byte order, aligned to their elements. An
array that is none of this is copied; one that is all of it is used where it lies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tvm_ffi

from tvm_conv3dt.errors import ArgumentTypeError, ArrayError, describe, show

__all__ = ["as_array", "check_output", "is_direct", "tensor"]

Array = npt.NDArray[Any]


def as_array(name: str, value: object, dtype: np.dtype[Any]) -> Array:
    """Return `value` as a C-contiguous, aligned array of `dtype` in native byte order.

    Parameters
    ----------
    name : str
        The argument's name, for messages.
    value : array-like
        A NumPy array, or anything that exports DLPack from the CPU's memory, such as a PyTorch tensor.
    dtype : numpy.dtype
        The only element type accepted, in either byte order.

    Returns
    -------
    numpy.ndarray
        The same memory where it fits, else a copy.

    Raises
    ------
    ArgumentTypeError
        If it is no array, or of another element type.
    ArrayError
        If another library's array cannot be exported.
    """
    array = value if isinstance(value, np.ndarray) else _imported(name, value)
    if array.dtype != dtype:
        if array.dtype.newbyteorder("=") != dtype:
            raise ArgumentTypeError(
                describe(
                    "use",
                    f"array {name}",
                    f"dtype={array.dtype}",
                    f"this workload takes {dtype}",
                    f"convert it with: {name}.astype({str(dtype)!r})",
                )
            )
        return array.astype(dtype, order="C")
    return array if is_direct(array) else array.copy(order="C")


def is_direct(array: Array) -> bool:
    """Whether compiled code may use the array's memory as it is (its dtype and shape apart)."""
    flags = array.flags
    return flags.c_contiguous and flags.aligned


def check_output(out: object, shape: tuple[int, ...], dtype: np.dtype[Any], x: Array) -> Array:
    """Return `out` if a result can be written to it.

    Parameters
    ----------
    out : numpy.ndarray
        The caller's array; it may have any strides.
    shape, dtype
        What it must have.
    x : numpy.ndarray
        The input that the compiled code reads while it writes.

    Returns
    -------
    numpy.ndarray
        `out` itself.

    Raises
    ------
    ArgumentTypeError
        If it is no NumPy array, or of another element type or byte order.
    ArrayError
        If it has another shape, is read-only, or lies over `x`.
    """
    if not isinstance(out, np.ndarray):
        rule = "it must be a NumPy array"
        raise ArgumentTypeError(describe("write to", "array out", type(out).__name__, rule))
    if out.dtype != dtype:
        rule = f"this workload gives {dtype} in native byte order"
        raise ArgumentTypeError(describe("write to", "array out", f"dtype={out.dtype.str}", rule))
    if out.shape != shape:
        rule = f"this call gives the shape {list(shape)}"
        raise ArrayError(describe("write to", "array out", f"shape={list(out.shape)}", rule))
    if not out.flags.writeable:
        rule = "it must be writable"
        raise ArrayError(describe("write to", "array out", "writeable=False", rule))
    # A strided output is filled from a temporary after the input was read. For two direct arrays bounds are exact.
    if is_direct(out) and np.may_share_memory(x, out):
        rule = "it must not share memory with the input"
        raise ArrayError(describe("write to", "array out", f"shape={list(out.shape)}", rule))
    return out


def tensor(array: Array) -> Any:
    """Return a C-contiguous array as a tensor of tvm-ffi, over the same memory."""
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


def _imported(name: str, value: object) -> Array:
    exporter: Any = value
    if not hasattr(value, "__dlpack__"):
        rule = "it must be a NumPy array, or export DLPack"
        raise ArgumentTypeError(
            describe("use", f"array {name}", f"{type(value).__name__} {show(value)}", rule)
        )
    try:
        return np.from_dlpack(exporter)
    except Exception as error:  # each library raises its own: BufferError, RuntimeError, TypeError
        rule = f"NumPy cannot share its memory ({error})"
        raise ArrayError(describe("use", f"array {name}", type(value).__name__, rule)) from error
