"""Arrays that callers have on GPUs: on which, of what framework, and as tensors of tvm-ffi."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_conv3dt.bfloat16 import bfloat16
from tvm_conv3dt.errors import ArgumentTypeError, ArrayError, describe
from tvm_conv3dt.runtime import cuda_frameworks, frameworks
from tvm_conv3dt.runtime.cuda_frameworks import NO_WAIT, Framework
from tvm_conv3dt.spec import DTYPES

__all__ = ["framework_on", "gpu_of", "outline", "tensor_of"]

# DLPack's kinds of memory: a GPU's own, and what CUDA moves between the CPU's and GPUs'.
_CUDA = 2
_MANAGED = 13


def gpu_of(value: object) -> int | None:
    """Return the number of the GPU that an array is on; None where it is in other memory, or no array."""
    found = frameworks.device_of(value)
    return found[1] if found is not None and found[0] == _CUDA else None


def outline(name: str, value: object) -> npt.NDArray[Any]:
    """Return an array of zeros of the shape and dtype of an array on a GPU, which takes no memory.

    Raises
    ------
    ArgumentTypeError
        If it is not of an element type of workloads.
    ArrayError
        If its values are not to be had.
    """
    tensor = _tensor(name, value, cuda_frameworks.framework_of(value), NO_WAIT, in_place=False)
    given = str(tensor.dtype)
    if given not in DTYPES:
        rule = f"it must be one of {', '.join(DTYPES)}"
        raise ArgumentTypeError(describe("use", f"array {name}", f"dtype={given}", rule))
    dtype = bfloat16() if given == "bfloat16" else np.dtype(given)
    return np.broadcast_to(np.zeros((), dtype), tuple(tensor.shape))


def framework_on(device: Any, name: str, value: Any) -> Framework | None:
    """Return the framework of an array on `device`; None where it is in the CPU's memory, or is none.

    Raises
    ------
    ArrayError
        If it is on another GPU, or in memory that CUDA moves about.
    """
    found = frameworks.device_of(value)
    kind = device.dlpack_device_type()
    if found is None or found[0] not in (kind, _MANAGED):
        return None
    if found[0] == _MANAGED:
        rule = "its memory is CUDA's managed one"
        raise frameworks.refusal(name, value, rule, "copy it to the GPU's own first")
    if found[1] != device.index:
        verb = "write to" if name == "out" else "use"
        rule = f"this operator is on GPU {device.index}"
        mend = f"copy it there, or make one with: bundle.operator(..., gpu={found[1]})"
        raise ArrayError(describe(verb, f"array {name}", f"device=GPU {found[1]}", rule, mend))
    return cuda_frameworks.framework_of(value)


def tensor_of(
    name: str,
    value: Any,
    framework: Framework,
    dtype: np.dtype[Any],
    stream: int,
    in_place: bool = False,
) -> Any:
    """Return an array on a GPU as a tensor of tvm-ffi over the same memory; see `Framework.tensor`.

    Raises
    ------
    ArgumentTypeError
        If it has another dtype than `dtype`.
    ArrayError
        If its values are not to be had, or with `in_place` it is immutable.
    """
    tensor = _tensor(name, value, framework, stream, in_place)
    given = str(tensor.dtype)
    if given == dtype.name:
        return tensor
    if in_place:
        rule = f"this workload gives {dtype}"
        raise ArgumentTypeError(describe("write to", "array out", f"dtype={given}", rule))
    rule, mend = f"this workload takes {dtype}", frameworks.conversion(name, value, dtype)
    raise ArgumentTypeError(describe("use", f"array {name}", f"dtype={given}", rule, mend))


def _tensor(name: str, value: Any, framework: Framework, stream: int, in_place: bool) -> Any:
    try:
        return framework.tensor(name, value, stream, in_place)
    except ArrayError:
        raise
    except Exception as error:
        raise frameworks.unreadable(name, value, error) from error
