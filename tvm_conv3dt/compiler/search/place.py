"""Where the measuring process runs candidates: on this machine's CPU or its first GPU."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tvm
import tvm_ffi

from tvm_conv3dt.errors import LibraryError, describe
from tvm_conv3dt.memory import aligned_copy, aligned_empty, stored

__all__ = ["GpuPlace", "HostPlace", "Place", "place_of"]

Array = npt.NDArray[Any]

# Seconds of work that is waited for at once: launching a kernel takes some microseconds, waiting for it more.
_QUEUED_SECONDS = 1e-3


class Place(Protocol):
    """What differs between the two; arrays and dtypes are a workload's, tensors are as compiled code declares them."""

    late: bool
    """Whether code is loaded when it is called first, which then is no measure of its speed."""

    def tensor(self, array: Array) -> Any:
        """Return a copy of an array for compiled code."""

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        """Return new memory for compiled code, with undefined content."""

    def calls(self, seconds: float) -> int:
        """Return how many calls of about so many seconds to time together."""

    def synchronize(self) -> None:
        """Wait for all calls, and raise what went wrong in them."""


class HostPlace:
    """The CPU: calls return when they are done."""

    late = False

    def tensor(self, array: Array) -> Any:
        """Return a copy, in memory allocated as the runtime does it: TVM's own has small pages."""
        return tvm.runtime.from_dlpack(stored(aligned_copy(array)))

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        """Return such memory."""
        return tvm.runtime.from_dlpack(stored(aligned_empty(tuple(shape), dtype)))

    def calls(self, seconds: float) -> int:
        """Return one."""
        del seconds
        return 1

    def synchronize(self) -> None:
        """Return."""


class GpuPlace:
    """A GPU: calls are queued, as a user's are who does not wait after each.

    Parameters
    ----------
    device : str
        Its kind, in TVM's names; the first one is taken.

    Raises
    ------
    LibraryError
        If TVM's part for it is not loaded: the CUDA runtime library must be, before TVM is imported.
    """

    late = True

    def __init__(self, device: str = "cuda") -> None:
        if tvm_ffi.get_global_func(f"device_api.{device}", allow_missing=True) is None:
            rule = "TVM did not load its libtvm_runtime_cuda, or has none"
            mend = "see what the system's loader says of it: ldd"
            raise LibraryError(describe("use", "GPU", device, rule, mend))
        self.device = tvm.device(device, 0)

    def tensor(self, array: Array) -> Any:
        """Return a copy on the GPU."""
        return tvm.runtime.tensor(stored(np.ascontiguousarray(array)), device=self.device)

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        """Return memory of the GPU."""
        return tvm.runtime.empty(tuple(shape), stored(np.empty(0, dtype)).dtype.name, self.device)

    def calls(self, seconds: float) -> int:
        """Return as many as take a millisecond."""
        return max(1, ceil(_QUEUED_SECONDS / max(seconds, 1e-7)))

    def synchronize(self) -> None:
        """Wait for TVM's stream."""
        self.device.sync()


def place_of(kind: str) -> Place:
    """Return where the code of devices of a kind runs; raises as `GpuPlace`."""
    return GpuPlace() if kind == "cuda" else HostPlace()
