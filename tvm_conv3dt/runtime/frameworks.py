"""Other frameworks' arrays as NumPy's, and results as theirs, over the same memory.

No framework is imported here: whoever has one of its arrays has imported it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm_ffi

from tvm_conv3dt.bfloat16 import bfloat16
from tvm_conv3dt.errors import ArgumentTypeError, ArrayError, Conv3dtError, describe, show

__all__ = [
    "conversion",
    "detached",
    "device_of",
    "family",
    "like",
    "mark_changed",
    "refusal",
    "to_numpy",
    "unreadable",
]

Array = npt.NDArray[Any]

# The kinds of DLPack's devices whose memory the CPU can use: CPU, CUDA's and ROCm's host memory, CUDA's managed one.
_HOST = (1, 3, 11, 13)

_TYPES = {
    "torch": ("Tensor",),
    "tensorflow": ("Tensor", "Variable"),
    "jax": ("Array",),
    "cupy": ("ndarray",),
}
_UNTRACED = {
    "tensorflow": "call it outside tf.function, or in it by tf.numpy_function",
    "jax": "call it outside of traced functions, or in them by jax.pure_callback",
}


def to_numpy(name: str, value: object, *, in_place: bool = False) -> Array:
    """Return another framework's array as NumPy's, of any dtype and strides.

    Parameters
    ----------
    name : str
        The argument's name, for messages.
    value : array-like
        A NumPy array; a PyTorch tensor; what exports DLPack from the CPU's memory, as TensorFlow's tensors and JAX's
        arrays do; or what has NumPy's ``__array__``.
    in_place : bool
        Whether the array is to be written to: then only memory that is the value's own will do.

    Returns
    -------
    numpy.ndarray
        The same memory, but for a few values that have none as NumPy's arrays have: a tensor with PyTorch's negative
        bit, or an ``__array__`` that makes a new one. It may be read-only. bfloat16 is that of ml_dtypes.

    Raises
    ------
    ArgumentTypeError
        If it is no array.
    ArrayError
        If its values are not to be had: on another device, sparse, masked, traced, recorded for gradients, or, with
        `in_place`, immutable.
    UnsupportedError
        If it is of bfloat16, and ml_dtypes is not installed.
    """
    if isinstance(value, np.ndarray):
        return value if type(value) is np.ndarray else _of_subclass(name, value, in_place)
    kind = family(value)
    if in_place and kind in ("tensorflow", "jax"):
        raise refusal(name, value, f"{kind}'s tensors never change", "leave it out")
    foreign: Any = value
    try:
        if kind == "torch":
            return _of_torch(name, foreign, in_place)
        if hasattr(value, "__dlpack__"):
            return _of_dlpack(name, foreign)
        if not in_place and hasattr(value, "__array__"):
            return np.asarray(foreign)
    except Conv3dtError:
        raise
    except Exception as error:
        raise unreadable(name, value, error) from error
    rule = "it must be a NumPy array, or export DLPack" + (
        "" if in_place else " or have NumPy's __array__"
    )
    raise ArgumentTypeError(
        describe("use", f"array {name}", f"{type(value).__name__} {show(value)}", rule)
    )


def like(value: object, result: Array) -> Any:
    """Return a result as an array of the framework that an argument is of, over the same memory.

    Parameters
    ----------
    value : object
        The argument.
    result : numpy.ndarray
        C-contiguous, aligned to 64 bytes, and not to be changed from here on.

    Returns
    -------
    array
        A torch.Tensor, tf.Tensor or jax.Array where `value` is one; for another array that names a namespace with
        ``from_dlpack``, by the Array API, what that makes; else `result`, and also where such a one is of bfloat16,
        which NumPy does not export.
    """
    if isinstance(value, np.ndarray):
        return result
    kind = family(value)
    narrow = result.dtype.isbuiltin == 2  # bfloat16: NumPy hands out its bits only
    framework: Any = sys.modules.get(kind)
    if kind == "torch":
        if narrow:
            return framework.from_numpy(result.view(np.int16)).view(framework.bfloat16)
        return framework.from_numpy(result)
    if kind == "tensorflow":
        bits = result.view(np.uint16) if narrow else result
        made = framework.experimental.dlpack.from_dlpack(bits.__dlpack__())
        return framework.bitcast(made, framework.bfloat16) if narrow else made
    foreign: Any = value
    if kind == "jax":
        # Of JAX's ways to take an array the one that shares also bfloat16.
        return framework.device_put(result, foreign.device, may_alias=True)
    if narrow or not hasattr(value, "__array_namespace__"):
        return result
    namespace = foreign.__array_namespace__()
    return namespace.from_dlpack(result) if hasattr(namespace, "from_dlpack") else result


def mark_changed(value: object) -> None:
    """Tell the framework of an array that its memory was written to, where it wants to know.

    PyTorch refuses gradients that would be wrong by it.
    """
    if isinstance(value, np.ndarray):
        return
    if family(value) == "torch":
        tensor: Any = value
        if not tensor.is_inference():
            sys.modules["torch"].autograd.graph.increment_version(tensor)


def conversion(name: str, value: object, dtype: np.dtype[Any]) -> str:
    """Return how the caller converts an array to `dtype`, as the end of a message; empty where that is unknown."""
    kind = family(value)
    if kind == "torch":
        return f"convert it with: {name}.to(torch.{dtype.name})"
    if kind == "tensorflow":
        return f"convert it with: tf.cast({name}, tf.{dtype.name})"
    if not hasattr(value, "astype"):
        return ""
    wanted = "ml_dtypes.bfloat16" if dtype.isbuiltin == 2 else repr(dtype.name)
    return f"convert it with: {name}.astype({wanted})"


def family(value: object) -> str:
    """Return the name of the framework that an array is of, among those that need care; else an empty string."""
    for name, kinds in _TYPES.items():
        module = sys.modules.get(name)
        if module is not None and any(isinstance(value, getattr(module, k, ())) for k in kinds):
            return name
    return ""


def _of_subclass(name: str, value: Array, in_place: bool) -> Array:
    if isinstance(value, np.ma.MaskedArray) and (in_place or np.ma.is_masked(value)):
        mend = f"pass {name}.data" if in_place else f"give them values with: {name}.filled(0)"
        raise refusal(name, value, "masked elements have no value", mend)
    return np.asarray(value)


def detached(name: str, tensor: Any) -> Any:
    """Return a tensor of PyTorch without its gradient; raises `ArrayError` where one would be lost by that."""
    if not tensor.requires_grad:
        return tensor
    if sys.modules["torch"].is_grad_enabled():
        mend = f"pass {name}.detach(), or call it under torch.no_grad()"
        raise refusal(name, tensor, "no gradient passes through this operator", mend)
    return tensor.detach()


def device_of(value: Any) -> tuple[int, int] | None:
    """Return the device that an array's memory is on, as DLPack has it: kind and number; None where it does not say."""
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack_device__"):
        return None
    try:
        kind, number = value.__dlpack_device__()
        return int(kind), int(number)
    except Exception:  # whoever exports it will say better what is wrong
        return None


def _of_torch(name: str, tensor: Any, in_place: bool) -> Array:
    # Not by DLPack, which forgets the negative bit, and makes memory up for tensors that have none.
    torch: Any = sys.modules["torch"]
    tensor = detached(name, tensor)
    if tensor.is_neg() and not in_place:
        tensor = tensor.resolve_neg()
    if tensor.dtype == torch.bfloat16:
        bits: Array = tensor.view(torch.int16).numpy()
        return bits.view(bfloat16())
    array: Array = tensor.numpy()
    return array


def _of_dlpack(name: str, exporter: Any) -> Array:
    device, _ = device_of(exporter) or (_HOST[0], 0)
    if device not in _HOST:
        rule = f"its memory is another device's (DLPack's kind {device})"
        raise refusal(name, exporter, rule, "copy it to the CPU's first")
    try:
        return np.from_dlpack(exporter)
    except Exception:
        bits = _bits(exporter)
        if bits is None:
            raise
    return bits.view(bfloat16())


def _bits(exporter: Any) -> Array | None:
    """Return the bits of bfloat16, which NumPy does not import; None where it is something else."""
    try:
        tensor = tvm_ffi.from_dlpack(exporter.__dlpack__())
    except Exception:
        return None
    return np.asarray(_Bits(tensor)) if str(tensor.dtype) == "bfloat16" else None


class _Bits:
    """A tensor of two-byte elements by NumPy's array interface, read-only; it keeps the tensor alive."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor
        bits = np.dtype(np.uint16)
        self.__array_interface__ = {
            "version": 3,
            "typestr": bits.str,
            "shape": tuple(tensor.shape),
            "strides": tuple(bits.itemsize * stride for stride in tensor.strides),
            "data": (tensor.data_ptr(), True),
        }


def unreadable(name: str, value: object, error: Exception) -> ArrayError:
    """Return the error for an argument whose framework does not give its values out: it raised `error`."""
    # Each raises its own: BufferError, RuntimeError, TypeError.
    reason = next(iter(str(error).split("\n")), "") or type(error).__name__
    names = [each.__name__ for each in type(value).__mro__]
    traced = any(each in ("Tracer", "SymbolicTensor") for each in names)
    mend = _UNTRACED.get(family(value), "") if traced else ""
    return refusal(name, value, f"its values cannot be read ({reason.strip()})", mend)


def refusal(name: str, value: object, rule: str, mend: str = "") -> ArrayError:
    """Return the error for an argument that cannot be used, named by its type."""
    verb = "write to" if name == "out" else "use"
    return ArrayError(describe(verb, f"array {name}", type(value).__name__, rule, mend))
