"""Memory of a GPU, by functions of TVM's runtime: provided, copied, looked at in parts and waited for.

No framework is needed for it. Memory is ``cudaMalloc``'s and goes back by ``cudaFree``, which waits for all work that
the GPU was given before: whoever drops the last reference to a tensor of here while kernels read it does no harm.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm_ffi

from tvm_conv3dt import memory
from tvm_conv3dt.errors import describe

__all__ = [
    "ALIGNMENT",
    "addresses",
    "download",
    "empty",
    "is_direct",
    "is_read_only",
    "move",
    "overwrite",
    "part",
    "size_of",
    "stored_name",
    "synchronize",
    "upload",
    "whole",
]

Array = npt.NDArray[Any]

ALIGNMENT = 16
"""Bytes: what a thread of a GPU reads or writes at once, which must not lie across."""

_CAPSULES = (b"dltensor", b"dltensor_versioned")
_READ_ONLY = 1  # DLPACK_FLAG_BITMASK_READ_ONLY

# Prototypes of our own: ctypes.pythonapi's are shared by all that use it.
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class _Tensor(ctypes.Structure):
    """DLTensor of dlpack.h, which a DLManagedTensor begins with."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("dtype", ctypes.c_uint8 * 4),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    )


class _Versioned(ctypes.Structure):
    """What stands before the DLTensor in a DLManagedTensorVersioned."""

    _fields_ = (
        ("version", ctypes.c_uint32 * 2),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
    )


def empty(shape: Sequence[int], dtype: str, device: Any) -> Any:
    """Return a new tensor of tvm-ffi on `device` with undefined content, aligned to 256 bytes.

    Raises
    ------
    MemoryError
        If the GPU has not as much.
    """
    try:
        return _function("TVMTensorAllocWithScope")(
            tvm_ffi.Shape(shape), tvm_ffi.dtype(dtype), device, None
        )
    except Exception as error:  # tvm-ffi's, with what CUDA said
        reason = " ".join(str(error).split())
        value = f"{dtype} of shape {list(shape)}"
        raise MemoryError(describe("allocate", f"array on {device}", value, reason)) from error


def upload(array: Array, device: Any) -> Any:
    """Return a copy of a C-contiguous array on `device`, as compiled code declares it; it is complete."""
    array = memory.stored(array)
    tensor = empty(array.shape, array.dtype.name, device)
    overwrite(tensor, array)
    return tensor


def overwrite(tensor: Any, array: Array) -> None:
    """Copy a C-contiguous array to a tensor on a GPU, and wait for it; no work on the tensor may be under way."""
    address = array.__array_interface__["data"][0]
    _function("TVMTensorCopyFromBytes")(tensor, ctypes.c_void_p(address), array.nbytes)


def download(tensor: Any, array: Array) -> None:
    """Copy a C-contiguous tensor on a GPU, whose values are there, to a C-contiguous array, and wait for it."""
    address = array.__array_interface__["data"][0]
    _function("TVMTensorCopyToBytes")(tensor, ctypes.c_void_p(address), array.nbytes)


def move(source: Any, target: Any, device: Any) -> None:
    """Copy one C-contiguous tensor to another on a GPU, and wait for it; no work on either may be under way."""
    _function("TVMTensorCopyFromTo")(source, target)
    synchronize(device, 0)


def synchronize(device: Any, stream: int) -> None:
    """Wait for the work of one stream of a GPU."""
    _function("Device_StreamSync")(device, stream)


def part(tensor: Any, shape: Sequence[int], dtype: str, offset: int = 0) -> Any:
    """Return some of a C-contiguous tensor as a tensor over the same memory, which it keeps.

    Parameters
    ----------
    tensor : tvm_ffi.Tensor
        The whole.
    shape, dtype
        Of the part; what it holds is not converted.
    offset : int
        Where it starts, in bytes.
    """
    view = _function("TVMTensorCreateView")(
        tensor, tvm_ffi.Shape(shape), tvm_ffi.dtype(dtype), offset
    )
    return whole(view)


def whole(tensor: Any) -> Any:
    """Return a tensor that starts where its memory does, which compiled code demands: itself, or one that does."""
    capsule = tensor.__dlpack__()
    # A structure that tvm-ffi made for this capsule alone, and nobody else has seen.
    found = _Tensor.from_address(_pointer(capsule, _CAPSULES[0]))
    if not found.byte_offset:
        return tensor
    found.data, found.byte_offset = (found.data or 0) + found.byte_offset, 0
    return tvm_ffi.from_dlpack(capsule)


def is_read_only(capsule: object) -> bool:
    """Whether a capsule of DLPack says that its memory must not be written to; old ones cannot say that it may."""
    if not _is_valid(capsule, _CAPSULES[1]):
        return True
    return bool(_Versioned.from_address(_pointer(capsule, _CAPSULES[1])).flags & _READ_ONLY)


def addresses(tensor: Any, writeable: bool = True) -> Array:
    """Return an array of the same addresses as a tensor's elements, to compute with; they cannot be read here."""
    return np.asarray(_Addresses(tensor, writeable))


def is_direct(tensor: Any) -> bool:
    """Whether kernels may use a tensor's memory as it is (its dtype and shape apart)."""
    return bool(tensor.is_contiguous()) and tensor.data_ptr() % ALIGNMENT == 0


def stored_name(dtype: np.dtype[Any]) -> str:
    """Return the name of a dtype as compiled code declares it; see `memory.stored`."""
    return "uint16" if dtype.isbuiltin == 2 else dtype.name


def size_of(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """Return how many bytes an array takes."""
    return prod(shape) * dtype.itemsize


class _Addresses:
    def __init__(self, tensor: Any, writeable: bool) -> None:
        self._tensor = tensor
        size = tensor.dtype.itemsize
        self.__array_interface__ = {
            "version": 3,
            "typestr": f"|V{size}",
            "shape": tuple(tensor.shape),
            "strides": tuple(size * stride for stride in tensor.strides),
            "data": (tensor.data_ptr(), not writeable),
        }


@functools.cache
def _function(name: str) -> Any:
    return tvm_ffi.get_global_func(f"runtime.{name}")
