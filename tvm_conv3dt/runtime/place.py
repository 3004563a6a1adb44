"""Where an operator's kernels find their arrays: in the CPU's memory, or on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tvm_conv3dt.errors import ArgumentTypeError, DeviceError, describe, show
from tvm_conv3dt.runtime.host_place import HostPlace, Shapes

__all__ = ["Call", "Place", "place_for"]

Array = npt.NDArray[Any]


class Call(Protocol):
    """The arrays of one call, from the caller to kernels and back, inside a ``with`` statement."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The input's shape."""

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Check the caller's output of that shape, or make a new one, and make the input ready for kernels."""

    def run(self, kernel: Callable[[Any, Any], None], batches: int) -> None:
        """Have `kernel(x, y)` compute each of so many equal parts of input and output, given as tensors."""

    def compute(self, function: Callable[[Array], Array], batches: int) -> None:
        """Have `function` compute each part's result on the CPU, in any dtype."""

    def result(self) -> Any:
        """Return what the caller gets."""


class Place(Protocol):
    """Memory that kernels work on. Errors about arguments are those that `Operator` tells."""

    def constant(self, name: str, value: object, dtype: np.dtype[Any]) -> Array:
        """Return filters or a bias in the CPU's memory, of `dtype`, from wherever they are; in any layout."""

    def tensor(self, array: Array) -> Any:
        """Return a C-contiguous array as a tensor for kernels: its own memory, or a copy elsewhere."""

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        """Return a new array, as kernels like it best, with undefined content."""

    def packed(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        """Return a new tensor for packed filters."""

    def packing(self) -> AbstractContextManager[object]:
        """Return a context in which filters are packed; they are at its end, for calls on any stream."""

    def direct(
        self, x: Any, out: Any, shapes: Shapes, dtype: np.dtype[Any]
    ) -> tuple[Any, Any, Any] | None:
        """Return tensors of a call's arrays of the shapes of input and output, and the result, where nothing but the kernel is left to do."""

    def call(self, x: Any, out: Any, dtype: np.dtype[Any]) -> AbstractContextManager[Call]:
        """Return one call's arrays."""

    def upload(self, array: Array) -> Any:
        """Return a NumPy array where kernels use it without a copy."""

    def download(self, value: Any, dtype: np.dtype[Any]) -> Array:
        """Return an array from there as NumPy's, when all work on it is done."""

    def synchronize(self) -> None:
        """Wait for the work that calls have queued on tvm-ffi's stream."""

    def divisible(self, name: str, value: Any, dtype: np.dtype[Any]) -> Any:
        """Return an argument as something that gives slices and has its shape, `out` over the same memory."""

    def joiner(self, x: Any) -> Callable[[Sequence[Any], int], Any] | None:
        """Return what puts results together along an axis, where those of the framework of `x` never change."""

    def target(self, out: Any, x: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Return the caller's `out`, checked, or a new array for a result, as something that gives slices."""

    def given(self, result: Any, out: Any, x: Any) -> Any:
        """Return what the caller gets who passed `out` and `x`, from a filled `target`."""


def place_for(kind: str, filters: object, gpu: int | None = None) -> Place:
    """Return where the kernels of a bundle of that kind of code work.

    Parameters
    ----------
    kind : str
        The manifest's: ``"llvm"`` or ``"cuda"``.
    filters : array-like
        The operator's.
    gpu : int, optional
        Which GPU; by default the one that the filters are on, else the first.

    Raises
    ------
    ArgumentTypeError
        If the number is none.
    DeviceError
        If it is less than 0, or there is one and the bundle is for CPUs.
    """
    if kind == "cuda":
        # Here, not above: on small machines without a GPU imports are most of what a first call takes.
        from tvm_conv3dt.runtime.cuda_place import CudaPlace
        from tvm_conv3dt.runtime.device_arrays import gpu_of

        return CudaPlace((gpu_of(filters) or 0) if gpu is None else _number(gpu))
    if gpu is not None:
        raise DeviceError(describe("make", "operator", f"gpu={gpu}", "the bundle is for CPUs"))
    return HostPlace()


def _number(gpu: object) -> int:
    if isinstance(gpu, bool) or not isinstance(gpu, int):
        rule = "it must be the number of a GPU"
        raise ArgumentTypeError(describe("make", "operator", f"gpu={show(gpu)}", rule))
    if gpu < 0:
        raise DeviceError(describe("make", "operator", f"gpu={gpu}", "CUDA counts them from 0"))
    return gpu
