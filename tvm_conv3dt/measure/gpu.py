"""The first GPU of this machine, by NVIDIA's driver alone: its memory, kernels that were compiled before, and its clock."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from tvm_conv3dt import cuda_driver
from tvm_conv3dt.errors import PlatformError, describe

__all__ = ["Gpu", "nominal"]

_LIBRARY = "libcuda.so.1"
_CLOCK, _MULTIPROCESSORS = 13, 16  # CU_DEVICE_ATTRIBUTE_...
_KHZ = 1e3

# Multiply-adds of one multiprocessor in one cycle, by compute capability: of float32, by the programming guide's table
# of arithmetic instructions; of dense float16 products added in float32 on tensor cores, by the architectures' white
# papers, of the cards where they are not halved.
_PER_CYCLE = {
    (7, 5): (64, 512),
    (8, 0): (64, 1024),
    (8, 6): (128, 512),
    (8, 7): (128, 1024),
    (8, 9): (128, 512),
    (9, 0): (128, 2048),
    (10, 0): (128, 4096),
    (12, 0): (128, 512),
}


def nominal(capability: tuple[int, int], multiprocessors: int, hertz: float) -> tuple[float, float]:
    """Return what a GPU's clock and units give at most: float32 and tensor cores, in 1e9 operations per second.

    Of an architecture that is not known the numbers are those of the nearest one below.

    Raises
    ------
    PlatformError
        If there is none below.
    """
    below = [each for each in _PER_CYCLE if each <= capability]
    if not below:
        value = "compute capability {}.{}".format(*capability)
        raise PlatformError(describe("find", "ceilings", value, "no such GPU is known"))
    plain, matrix = _PER_CYCLE[max(below)]
    rate = 2 * multiprocessors * hertz / 1e9
    return plain * rate, matrix * rate


class Gpu:
    """The first GPU, with a context of this thread; memory and kernels stay until the process ends.

    Parameters
    ----------
    library : optional
        NVIDIA's driver; by default it is loaded.

    Raises
    ------
    PlatformError
        If there is no driver or no GPU, or the driver reports a failure.
    """

    def __init__(self, library: Any = None) -> None:
        found = cuda_driver.find().gpus[0]
        self.name, self.capability, self.arch = found.name, found.capability, found.arch
        self._library = ctypes.CDLL(_LIBRARY) if library is None else library
        self._device = ctypes.c_int()
        self._ask("cuDeviceGet", ctypes.byref(self._device), ctypes.c_int(0))

    @property
    def multiprocessors(self) -> int:
        """How many there are."""
        return self._attribute(_MULTIPROCESSORS)

    def nominal(self) -> tuple[float, float]:
        """Return what `nominal` gives for this one, at its highest clock."""
        return nominal(self.capability, self.multiprocessors, self._attribute(_CLOCK) * _KHZ)

    def free_bytes(self) -> int:
        """Return how much memory nobody has."""
        self._enter()
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._ask("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def allocate(self, size: int, value: int = 0) -> int:
        """Return the address of so many bytes, all of one value."""
        self._enter()
        address = ctypes.c_uint64()
        self._ask("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        self.fill(address.value, value, size)
        return address.value

    def release(self, address: int) -> None:
        """Give memory back."""
        self._ask("cuMemFree_v2", ctypes.c_uint64(address))

    def copy(self, to: int, by: int, size: int) -> None:
        """Queue a copy from memory to memory."""
        self._ask(
            "cuMemcpyDtoDAsync_v2",
            *(ctypes.c_uint64(to), ctypes.c_uint64(by), ctypes.c_size_t(size), None),
        )

    def fill(self, address: int, value: int, size: int) -> None:
        """Queue the filling of memory."""
        self._ask(
            "cuMemsetD8Async",
            *(ctypes.c_uint64(address), ctypes.c_ubyte(value), ctypes.c_size_t(size), None),
        )

    def kernel(self, binary: bytes, name: str) -> Any:
        """Load machine code, and return the handle of one of its kernels."""
        self._enter()
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self._ask("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(binary))
        self._ask("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
        return function

    def launch(self, kernel: Any, blocks: int, threads: int, arguments: Sequence[Any]) -> None:
        """Queue a kernel, with arguments of ctypes."""
        addresses = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        sizes = map(ctypes.c_uint, (blocks, 1, 1, threads, 1, 1, 0))
        self._ask("cuLaunchKernel", kernel, *sizes, None, addresses, None)

    def synchronize(self) -> None:
        """Wait for all that is queued."""
        self._ask("cuCtxSynchronize")

    @cached_property
    def _context(self) -> Any:
        context = ctypes.c_void_p()
        # That of TVM's and the frameworks' too.
        self._ask("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        return context

    def _enter(self) -> None:
        self._ask("cuCtxSetCurrent", self._context)

    def _attribute(self, which: int) -> int:
        number = ctypes.c_int()
        self._ask("cuDeviceGetAttribute", ctypes.byref(number), ctypes.c_int(which), self._device)
        return number.value

    def _ask(self, function: str, *arguments: Any) -> None:
        # No prototypes: all results are int.
        code = getattr(self._library, function)(*arguments)
        if code:
            rule = f"{function} of NVIDIA's driver reports error {code}"
            raise PlatformError(describe("use", "GPU", self.name, rule, "see nvidia-smi"))
