"""The CPU's memory, where an operator for the CPU finds its arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm_ffi

from tvm_conv3dt import memory
from tvm_conv3dt.runtime import arrays, frameworks, thread_pool

__all__ = ["HostPlace", "Shapes"]

Array = npt.NDArray[Any]
Shapes = tuple[tuple[int, ...], tuple[int, ...]]


class HostPlace:
    """The memory of one operator; see `place.Place`. It keeps that of one large result that is gone for the next."""

    def __init__(self) -> None:
        self._reserve = memory.Reserve()

    def constant(self, name: str, value: object, dtype: np.dtype[Any]) -> Array:
        """Return filters or a bias, over the caller's memory."""
        return arrays.view(name, value, dtype)

    def tensor(self, array: Array) -> Any:
        """Return an array as a tensor over the same memory."""
        return arrays.tensor(array)

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """Return a new array."""
        return memory.aligned_empty(tuple(shape), dtype)

    def packed(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        """Return a new tensor for packed filters."""
        return arrays.tensor(self.empty(shape, dtype))

    def packing(self) -> contextlib.AbstractContextManager[object]:
        """Give the thread its pool."""
        thread_pool.prepare()
        return contextlib.nullcontext()

    def direct(
        self, x: Any, out: Any, shapes: Shapes, dtype: np.dtype[Any]
    ) -> tuple[Any, Any, Array] | None:
        """Return tensors over NumPy arrays that kernels take as they are, and `out`, or a new one; None where more is to be seen to.

        All that `call` does takes longer than a small layer's kernel should: by then that has pushed Python out of the caches.
        """
        read, written = shapes
        if not _is_plain(x, read, dtype):
            return None
        if out is None:
            out = self._reserve.empty(written, dtype)
        elif not _is_plain(out, written, dtype) or np.may_share_memory(x, out):
            return None
        thread_pool.prepare()
        return tvm_ffi.from_dlpack(x), tvm_ffi.from_dlpack(out), out

    def call(self, x: Any, out: Any, dtype: np.dtype[Any]) -> _HostCall:
        """Return one call's arrays."""
        return _HostCall(self._reserve, x, out, dtype)

    def upload(self, array: Array) -> Array:
        """Return the array as kernels like it best: itself, or else a copy."""
        start = array.__array_interface__["data"][0]
        good = arrays.is_direct(array) and start % memory.ALIGNMENT == 0
        return array if good else memory.aligned_copy(array)

    def download(self, value: Any, dtype: np.dtype[Any]) -> Array:
        """Return an array as NumPy's, over the same memory."""
        return arrays.view("y", value, dtype)

    def synchronize(self) -> None:
        """Return at once: calls have ended when they return."""

    def divisible(self, name: str, value: Any, dtype: np.dtype[Any]) -> Array:
        """Return an argument as a NumPy array over the same memory."""
        return arrays.view(name, value, dtype)

    def joiner(self, x: Any) -> None:
        """Return None: results are put together in their memory."""
        del x

    def target(self, out: Any, x: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return `out` as a NumPy array, or a new one."""
        if out is None:
            return self._reserve.empty(shape, dtype)
        return arrays.check_output(out, shape, dtype, x)

    def given(self, result: Any, out: Any, x: Any) -> Any:
        """Return `out`, or the result as an array of the framework of `x`."""
        if out is None:
            return frameworks.like(x, result)
        frameworks.mark_changed(out)
        return out


def _is_plain(array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether it is a NumPy array of that shape and dtype, contiguous, aligned and writable; no bfloat16, which NumPy does not export."""
    return (
        type(array) is np.ndarray
        and array.dtype is dtype
        and array.shape == shape
        and array.flags.carray
        and dtype.kind == "f"
    )


class _HostCall:
    __slots__ = ("_dtype", "_given", "_out", "_reserve", "_result", "_source", "_target", "_x")

    def __init__(self, reserve: memory.Reserve, x: Any, out: Any, dtype: np.dtype[Any]) -> None:
        self._reserve = reserve
        self._x, self._out, self._dtype = x, out, dtype
        self._given = arrays.view("x", x, dtype)
        self._source: Array
        self._result: Array
        self._target: Array

    def __enter__(self) -> _HostCall:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    @property
    def shape(self) -> tuple[int, ...]:
        """The input's shape."""
        return self._given.shape

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Take what compiled code can use as it is, and make the rest."""
        dtype = self._dtype
        if self._out is None:
            self._result = self._target = self._reserve.empty(shape, dtype)
        else:
            self._result = arrays.check_output(self._out, shape, dtype, self._given)
            direct = arrays.is_direct(self._result)
            self._target = self._result if direct else memory.aligned_empty(shape, dtype)
        self._source = arrays.direct(self._given, dtype)

    def run(self, kernel: Callable[[Any, Any], None], batches: int) -> None:
        """Run the kernel, on all threads."""
        thread_pool.prepare()
        if batches == 1:
            kernel(arrays.tensor(self._source), arrays.tensor(self._target))
            return
        for part, written in self._parts(batches):
            kernel(arrays.tensor(part), arrays.tensor(written))

    def compute(self, function: Callable[[Array], Array], batches: int) -> None:
        """Compute into the output."""
        for part, written in self._parts(batches):
            values = function(part)
            with np.errstate(all="ignore"):  # an infinity where the dtype ends, as in compiled code
                written[...] = values

    def result(self) -> Any:
        """Return `out`, or the result as an array of the framework of `x`."""
        if self._out is None:
            return frameworks.like(self._x, self._result)
        if self._target is not self._result:
            np.copyto(self._result, self._target)
        frameworks.mark_changed(self._out)
        return self._out

    def _parts(self, batches: int) -> zip[tuple[Array, Array]]:
        # Views, since batches are the first axis.
        return zip(np.split(self._source, batches), np.split(self._target, batches), strict=True)
