"""Callers' arguments turned into plain Python values, or refused: TensorFlow's ways to write sizes and strides."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any

import numpy as np

from tvm_conv3dt.errors import ArgumentTypeError, WorkloadError, describe, show

__all__ = [
    "LARGEST",
    "choice",
    "dtype_name",
    "flag",
    "integers",
    "number",
    "padding",
    "per_axis",
    "refuse",
    "sizes",
]

LARGEST = 2**31 - 1
"""The largest size, stride or dilation: compiled loops count each axis with 32 bits (element offsets have 64)."""


def refuse(field: str, value: object, rule: str, mend: str = "") -> WorkloadError:
    """Return the error that refuses a workload because of one field's value."""
    return WorkloadError(describe("make", "workload", f"{field}={show(value)}", rule, mend))


def sizes(field: str, value: object) -> tuple[int, int, int, int, int]:
    """Return a shape as five positive ints.

    Parameters
    ----------
    field : str
        The argument's name, for messages.
    value : sequence of int
        A list, tuple, 1-D integer array or tensor shape.

    Returns
    -------
    tuple of int
        The five sizes.

    Raises
    ------
    ArgumentTypeError
        If it is not a sequence, or an entry is a bool, a float or something else.
    WorkloadError
        If its length is not 5, or an entry is below 1 or above `LARGEST`.
    """
    entries = _entries(field, value, (5,))
    _check_range(field, value, entries)
    a, b, c, d, e = entries
    return a, b, c, d, e


def per_axis(field: str, value: object, data_format: str) -> tuple[int, int, int]:
    """Return strides or dilations as three positive ints, for depth, height and width.

    Parameters
    ----------
    field : str
        The argument's name, for messages.
    value : int, sequence of int, or None
        One for all axes; or 1, 3 or 5 entries, the five in `data_format` order with ones for
        batch and channels; None means ones.
    data_format : str
        ``"NDHWC"`` or ``"NCDHW"``.

    Returns
    -------
    tuple of int
        The three values.

    Raises
    ------
    ArgumentTypeError
        If it is no int and no sequence, or an entry is a bool, a float or something else.
    WorkloadError
        If it has another length, an entry is below 1 or above `LARGEST`, or batch or channels
        have another value than 1.
    """
    if value is None:
        return 1, 1, 1
    entries = _entries(field, [value] if _is_scalar(value) else value, (1, 3, 5))
    _check_range(field, value, entries)
    if len(entries) == 5:
        batch, channels = entries[0], entries[data_format.index("C")]
        if batch != 1 or channels != 1:
            raise refuse(
                field, list(entries), f"its entries for N and C of {data_format} must be 1"
            )
        first = data_format.index("D")
        entries = entries[first : first + 3]
    if len(entries) == 1:
        entries = entries * 3
    depth, height, width = entries
    return depth, height, width


def integers(field: str, value: object, lengths: tuple[int, ...], least: int) -> tuple[int, ...]:
    """Return a sequence of integers as plain ints.

    Parameters
    ----------
    field : str
        The argument's name, for messages.
    value : sequence of int
        A list, tuple or 1-D integer array.
    lengths : tuple of int
        How many there may be.
    least : int
        The smallest entry allowed; the largest is `LARGEST`.

    Returns
    -------
    tuple of int
        The entries.

    Raises
    ------
    ArgumentTypeError
        If it is not a sequence, or an entry is a bool, a float or something else.
    WorkloadError
        If its length is another one, or an entry is out of range.
    """
    entries = _entries(field, value, lengths)
    _check_range(field, value, entries, least)
    return entries


def padding(field: str, value: object, names: tuple[str, ...]) -> str | tuple[int, int, int]:
    """Return a padding: one of the names, or three non-negative ints for depth, height and width.

    Raises
    ------
    ArgumentTypeError
        If it is no str and no sequence, or an entry is a bool, a float or something else.
    WorkloadError
        If it is another str, of another length, or an entry is negative or above `LARGEST`.
    """
    if isinstance(value, str):
        return choice(field, value, names)
    if _is_scalar(value) or not hasattr(value, "__len__"):
        raise _wrong_type(field, value, f"it must be one of {', '.join(names)}, or three integers")
    depth, height, width = integers(field, value, (3,), 0)
    return depth, height, width


def choice(field: str, value: object, allowed: tuple[str, ...]) -> str:
    """Return `value` if it is one of the allowed strings.

    Raises
    ------
    ArgumentTypeError
        If it is not a str.
    WorkloadError
        If it is another str.
    """
    if not isinstance(value, str):
        raise _wrong_type(field, value, f"it must be a str, one of {', '.join(allowed)}")
    if value not in allowed:
        raise refuse(field, value, f"it must be one of {', '.join(allowed)}")
    return str(value)


def dtype_name(field: str, value: object, allowed: tuple[str, ...]) -> str:
    """Return the name of a dtype, given as a str or as a dtype object or scalar type of any framework.

    Raises
    ------
    ArgumentTypeError
        If it is none of the allowed ones.
    """
    name = value
    for attribute in ("name", "__name__"):  # numpy.dtype and tf.DType; numpy.float32
        if not isinstance(name, str):
            name = getattr(value, attribute, None)
    if not isinstance(name, str) or name not in allowed:
        raise _wrong_type(field, value, f"it must be one of {', '.join(allowed)}")
    return str(name)


def flag(field: str, value: object) -> bool:
    """Return `value` if it is a bool.

    Raises
    ------
    ArgumentTypeError
        If it is anything else.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise _wrong_type(field, value, "it must be True or False")
    return bool(value)


def number(field: str, value: object) -> float:
    """Return `value` as a finite float.

    Raises
    ------
    ArgumentTypeError
        If it is not a real number.
    WorkloadError
        If it is infinite or not a number.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise _wrong_type(field, value, "it must be a real number")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise refuse(field, value, "it must be finite")
    return result


def _entries(field: str, value: object, lengths: tuple[int, ...]) -> tuple[int, ...]:
    if _is_scalar(value) or isinstance(value, (str, bytes, bytearray, dict, set, frozenset)):
        raise _wrong_type(field, value, "it must be a sequence of integers")
    many: Any = value
    try:
        length = len(many)
    except (TypeError, ValueError) as error:  # ValueError: a tensor shape of unknown rank
        raise _wrong_type(field, value, "it must be a sequence of integers") from error
    if length not in lengths:
        allowed = " or ".join(", ".join(map(str, lengths)).rsplit(", ", 1))
        raise refuse(field, value, f"its length is {length} and must be {allowed}")
    return tuple(_integer(field, value, entry) for entry in many)


def _is_scalar(value: object) -> bool:
    return isinstance(value, (numbers.Number, np.generic)) or (
        getattr(value, "shape", None) == () and hasattr(value, "dtype")
    )


def _integer(field: str, value: object, entry: object) -> int:
    # A bool is an int to Python, and would pass for the size 0 or 1.
    kind = str(getattr(entry, "dtype", type(entry).__name__))
    if "bool" in kind:
        raise _wrong_type(field, value, "its entries must be integers, not bools")
    if getattr(entry, "ndim", 0):
        raise refuse(field, value, "it must have one dimension")
    whole: Any = entry
    try:
        return operator.index(whole)
    except Exception as error:  # TypeError, or what an object of another package raises
        raise _wrong_type(field, value, f"its entries must be integers, not {kind}") from error


def _check_range(field: str, value: object, entries: tuple[int, ...], least: int = 1) -> None:
    shown = value if _is_scalar(value) else list(entries)
    for index, entry in enumerate(entries):
        if entry < least:
            raise refuse(field, shown, f"its entry {index} must be at least {least}")
        if entry > LARGEST:
            raise refuse(field, shown, f"its entry {index} must be at most {LARGEST}")


def _wrong_type(field: str, value: object, rule: str) -> ArgumentTypeError:
    return ArgumentTypeError(describe("make", "workload", f"{field}={show(value)}", rule))
