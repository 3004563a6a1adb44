"""NVIDIA's driver, asked through its C interface: which GPUs there are, and up to which CUDA it runs."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Any

from tvm_conv3dt.errors import PlatformError, describe

__all__ = ["CudaDriver", "CudaGpu", "find"]

_LIBRARY = "libcuda.so.1"
_NO_DEVICE = 100
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_LONGEST_NAME = 256


@dataclass(frozen=True)
class CudaGpu:
    """A GPU of this machine.

    Attributes
    ----------
    name : str
        As the driver calls it.
    capability : tuple of two int
        Its compute capability: ``(9, 0)`` for sm_90.
    """

    name: str
    capability: tuple[int, int]

    @property
    def arch(self) -> str:
        """Its architecture in the names of compilers: ``"sm_90"``."""
        return "sm_{}{}".format(*self.capability)


@dataclass(frozen=True)
class CudaDriver:
    """The driver of this machine.

    Attributes
    ----------
    cuda : tuple of two int
        The latest version of CUDA that it runs.
    gpus : tuple of CudaGpu
        Those that this process may use, in CUDA's order; at least one.
    """

    cuda: tuple[int, int]
    gpus: tuple[CudaGpu, ...]


def find() -> CudaDriver:
    """Return this machine's driver and GPUs.

    Raises
    ------
    PlatformError
        If there is no driver, no GPU that this process may use, or the driver reports a failure.
    """
    library = _open()
    try:
        return _ask(library)
    except AttributeError as error:
        rule = f"it is not NVIDIA's driver: {error}"
        raise PlatformError(describe("find", "GPU", _LIBRARY, rule, _INSTALL)) from error


_INSTALL = "install NVIDIA's driver, or take a bundle for CPUs"


def _open() -> Any:
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        rule = f"there is no NVIDIA driver on this machine ({error})"
        raise PlatformError(describe("find", "GPU", _LIBRARY, rule, _INSTALL)) from error


def _ask(library: Any) -> CudaDriver:
    # No prototypes: all results are int, and all arguments int or pointers.
    number = ctypes.c_int()

    def asked(function: str, *arguments: object) -> int:
        code = getattr(library, function)(*arguments)
        if code == _NO_DEVICE:
            raise _no_gpu()
        if code:
            rule = f"{function} of NVIDIA's driver reports {_words(library, code)}"
            raise PlatformError(describe("find", "GPU", _LIBRARY, rule, "see nvidia-smi"))
        return number.value

    version = asked("cuDriverGetVersion", ctypes.byref(number))
    asked("cuInit", 0)
    count = asked("cuDeviceGetCount", ctypes.byref(number))
    if count < 1:
        raise _no_gpu()
    gpus = []
    for index in range(count):
        gpu = asked("cuDeviceGet", ctypes.byref(number), index)
        name = ctypes.create_string_buffer(_LONGEST_NAME)
        asked("cuDeviceGetName", name, _LONGEST_NAME, gpu)
        major, minor = (
            asked("cuDeviceGetAttribute", ctypes.byref(number), which, gpu)
            for which in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR)
        )
        gpus.append(CudaGpu(name.value.decode(errors="replace"), (major, minor)))
    return CudaDriver((version // 1000, version % 1000 // 10), tuple(gpus))


def _no_gpu() -> PlatformError:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    rule = "NVIDIA's driver shows this process no GPU"
    if visible is not None:
        rule += f" (CUDA_VISIBLE_DEVICES is {visible!r})"
    return PlatformError(describe("find", "GPU", _LIBRARY, rule, "see nvidia-smi"))


def _words(library: Any, code: int) -> str:
    text = ctypes.c_char_p()
    library.cuGetErrorString(code, ctypes.byref(text))
    said = text.value.decode(errors="replace") if text.value else "an error without a name"
    return f"{said} (error {code})"
