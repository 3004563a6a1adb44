"""Memory for arrays that compiled code reads and writes."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ALIGNMENT", "Reserve", "aligned_copy", "aligned_empty", "stored"]

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector."""

# The system provides less at once, from what the process has already.
_WORTH_KEEPING = 1 << 20


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return a new array with undefined content that starts at a multiple of `ALIGNMENT` bytes.

    NumPy's own start 16 bytes behind one where they are large, so that every vector of 64 bytes touches two cache
    lines, and no store can pass by the caches.
    """
    size = prod(shape) * dtype.itemsize
    # NumPy's allocator, since it asks the system for huge pages where an array is large.
    memory = np.empty(size + ALIGNMENT, np.uint8)
    # Not by .ctypes, which makes an object for it: calls of small operators would feel that.
    start = -memory.__array_interface__["data"][0] % ALIGNMENT
    return np.ndarray(shape, dtype, memory, start)


def aligned_copy(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a C-contiguous copy that starts at a multiple of `ALIGNMENT` bytes."""
    result = aligned_empty(array.shape, array.dtype)
    result[...] = array
    return result


def stored(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array as compiled code declares it: bfloat16, which NumPy does not export, as its bits in uint16."""
    return array.view(np.uint16) if array.dtype.isbuiltin == 2 else array


class Reserve:
    """Memory for results, of which one that is gone is kept for the next.

    The system takes long to provide large memory: it fills it with zeros, page by page, and may have to make room first.
    That can be several times what computing the result takes.
    """

    def __init__(self) -> None:
        self._kept: list[npt.NDArray[Any]] = []

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return an array as `aligned_empty` does; nobody else has its memory while it, or a view of it, is alive."""
        size = prod(shape) * dtype.itemsize
        if size < _WORTH_KEEPING:
            return aligned_empty(shape, dtype)
        try:
            memory = self._kept.pop()
        except IndexError:
            memory = None
        if memory is None or memory.nbytes != size:
            memory = aligned_empty((size,), np.dtype(np.uint8))
        return np.asarray(_Lent(memory, self._kept)).view(dtype).reshape(shape)


class _Lent:
    """Memory on loan to an array, by NumPy's array interface; it goes back when the array and its views are gone."""

    def __init__(self, memory: npt.NDArray[Any], kept: list[npt.NDArray[Any]]) -> None:
        self._memory = memory
        self._kept = kept
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        if not self._kept:
            self._kept.append(self._memory)
