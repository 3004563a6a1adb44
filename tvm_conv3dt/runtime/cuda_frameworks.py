"""Frameworks whose arrays lie on a GPU: their streams, their memory, and their arrays as tensors of tvm-ffi.

As in `frameworks`, none is imported. What a framework queues on its current stream runs in order there, and its
allocator gives memory out in that order too, so a kernel on the same stream needs no waiting: those frameworks are
`ordered`. Where there is no such stream to ask for, a call waits for its result.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm_ffi

from tvm_conv3dt.errors import ArrayError
from tvm_conv3dt.runtime import cuda_memory, frameworks

__all__ = ["NONE", "Framework", "framework_of"]

NO_WAIT = -1
_LEGACY = 1  # DLPack's name of CUDA's default stream, whose handle is 0
_VERSION = (1, 0)  # the first of DLPack that says whether memory may be written to


class Framework:
    """Whatever exports DLPack; what follows is the most that holds for all, and the base of those known better.

    Attributes
    ----------
    ordered : bool
        Whether the framework's own work goes to the stream that `stream` returns.
    divisible : bool
        Whether its arrays give slices over the same memory, which can be written to.
    """

    ordered = False
    divisible = False

    def stream(self, device: Any) -> int:
        """Return the handle of the stream that the caller's work is on; 0 is CUDA's default one."""
        return int(tvm_ffi.get_raw_stream(device))

    def active(self, device: Any) -> contextlib.AbstractContextManager[Any]:
        """Return a context which leaves the framework's current GPU what it was; compiled code sets it."""
        del device
        return contextlib.nullcontext()

    def tensor(self, name: str, value: Any, stream: int, in_place: bool) -> Any:
        """Return an array as a tensor of tvm-ffi over the same memory.

        Parameters
        ----------
        name, value
            The argument.
        stream : int
            Handle of the stream that the tensor is used on, which then waits for what the framework has queued for it;
            `NO_WAIT` where that is the framework's own.
        in_place : bool
            Whether it is written to.

        Raises
        ------
        ArrayError
            If its values are not to be had, or with `in_place` it is immutable.
        """
        capsule = self._capsule(value, stream or _LEGACY, in_place)
        if in_place and cuda_memory.is_read_only(capsule):
            raise frameworks.refusal(name, value, "it must be writable")
        return tvm_ffi.from_dlpack(capsule)

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any], device: Any) -> Any:
        """Return a new array for `tensor`, C-contiguous, with undefined content."""
        return cuda_memory.empty(shape, dtype.name, device)

    def given(self, value: Any, x: Any) -> Any:
        """Return an array of `empty`, filled, as the caller gets it who passed `x`."""
        namespace: Any = x.__array_namespace__() if hasattr(x, "__array_namespace__") else None
        return namespace.from_dlpack(value) if hasattr(namespace, "from_dlpack") else value

    def compact(self, name: str, value: Any, device: Any) -> Any:
        """Return a C-contiguous copy, aligned as kernels need it."""
        del device
        raise _indirect(name, value)

    def copy(self, target: Any, source: Any, device: Any) -> None:
        """Write an array of `empty` to the caller's `out`, of any strides."""
        del source, device
        raise _indirect("out", target)

    def aside(self, target: Any, shape: Sequence[int], dtype: np.dtype[Any], device: Any) -> Any:
        """Return an array of `empty` for a result that `copy` will write to `target`.

        Raises
        ------
        ArrayError
            If `copy` could not.
        """
        if not self.divisible:
            raise _indirect("out", target)
        return self.empty(shape, dtype, device)

    def joiner(self) -> Callable[[Sequence[Any], int], Any] | None:
        """Return what puts arrays together along an axis, for a framework whose arrays are sliced but never change."""
        return None

    def _capsule(self, value: Any, stream: int, in_place: bool) -> Any:
        if not in_place:
            return value.__dlpack__(stream=stream)
        try:
            return value.__dlpack__(stream=stream, max_version=_VERSION)
        except TypeError:  # an old exporter
            return value.__dlpack__(stream=stream)


class TvmFfi(Framework):
    """Tensors of tvm-ffi itself, whose work is on the stream of its environment."""

    ordered = True

    def tensor(self, name: str, value: Any, stream: int, in_place: bool) -> Any:
        """Return the tensor itself; whoever made it has seen to it that it can be used on tvm-ffi's stream."""
        del name, in_place
        if stream != NO_WAIT and stream != (here := self.stream(value.device)):
            cuda_memory.synchronize(value.device, here)
        return value

    def given(self, value: Any, x: Any) -> Any:
        """Return the tensor itself."""
        del x
        return value


class PyTorch(Framework):
    """PyTorch's tensors, on its current stream."""

    ordered = divisible = True

    def stream(self, device: Any) -> int:
        """Return the handle of PyTorch's current stream."""
        return int(_module("torch").cuda.current_stream(device.index).cuda_stream)

    def active(self, device: Any) -> contextlib.AbstractContextManager[Any]:
        """Return PyTorch's own context."""
        context: contextlib.AbstractContextManager[Any] = _module("torch").cuda.device(device.index)
        return context

    def tensor(self, name: str, value: Any, stream: int, in_place: bool) -> Any:
        """Return a tensor; DLPack forgets PyTorch's negative bit, so it is resolved."""
        value = frameworks.detached(name, value)
        if value.is_neg():
            if in_place:
                raise frameworks.refusal(name, value, "its negative bit is set", "resolve it first")
            value = value.resolve_neg()
        value.data_ptr()  # raises where tensors have no memory, for which DLPack would make some up
        return tvm_ffi.from_dlpack(value.__dlpack__(stream=stream or _LEGACY))

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any], device: Any) -> Any:
        """Return a new tensor, of PyTorch's allocator."""
        torch = _module("torch")
        place = torch.device("cuda", device.index)
        return torch.empty(tuple(shape), dtype=getattr(torch, dtype.name), device=place)

    def given(self, value: Any, x: Any) -> Any:
        """Return the tensor itself."""
        del x
        return value

    def compact(self, name: str, value: Any, device: Any) -> Any:
        """Return a copy, of PyTorch's allocator."""
        del device
        torch = _module("torch")
        return frameworks.detached(name, value).clone(memory_format=torch.contiguous_format)

    def copy(self, target: Any, source: Any, device: Any) -> None:
        """Copy on PyTorch's current stream."""
        del device
        target.detach().copy_(source)


class CuPy(Framework):
    """CuPy's arrays, on its current stream."""

    ordered = divisible = True

    def stream(self, device: Any) -> int:
        """Return the handle of CuPy's current stream."""
        with self.active(device):
            return int(_module("cupy").cuda.get_current_stream().ptr)

    def active(self, device: Any) -> contextlib.AbstractContextManager[Any]:
        """Return CuPy's own context."""
        context: contextlib.AbstractContextManager[Any] = _module("cupy").cuda.Device(device.index)
        return context

    def tensor(self, name: str, value: Any, stream: int, in_place: bool) -> Any:
        """Return a tensor; CuPy's arrays can all be written to."""
        del name, in_place
        return tvm_ffi.from_dlpack(value.__dlpack__(stream=stream or _LEGACY))

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any], device: Any) -> Any:
        """Return a new array, of CuPy's allocator."""
        with self.active(device):
            return _module("cupy").empty(tuple(shape), dtype=dtype)

    def given(self, value: Any, x: Any) -> Any:
        """Return the array itself."""
        del x
        return value

    def compact(self, name: str, value: Any, device: Any) -> Any:
        """Return a copy, of CuPy's allocator."""
        del name
        with self.active(device):
            return value.copy(order="C")

    def copy(self, target: Any, source: Any, device: Any) -> None:
        """Copy on CuPy's current stream."""
        with self.active(device):
            target[...] = source


class Jax(Framework):
    """JAX's arrays, which never change: results are memory of the runtime's, handed over when they are complete.

    JAX has streams of its own, and does not say which. So it is waited for before a call, and the call for its result.
    """

    def tensor(self, name: str, value: Any, stream: int, in_place: bool) -> Any:
        """Return a tensor, once the array is computed."""
        del stream  # JAX would take NO_WAIT for a handle
        if in_place:
            raise frameworks.refusal(name, value, "jax's tensors never change", "leave it out")
        value.block_until_ready()
        return tvm_ffi.from_dlpack(value.__dlpack__())

    def given(self, value: Any, x: Any) -> Any:
        """Return an array of JAX over the same memory."""
        del x
        return _module("jax").dlpack.from_dlpack(value)

    def joiner(self) -> Callable[[Sequence[Any], int], Any]:
        """Return JAX's concatenation."""
        concatenate: Callable[[Sequence[Any], int], Any] = _module("jax").numpy.concatenate
        return concatenate


class TensorFlow(Framework):
    """TensorFlow's tensors, which are refused: they do not wait for one another where DLPack takes them out."""

    def tensor(self, name: str, value: Any, stream: int, in_place: bool) -> Any:
        """Raise `ArrayError`."""
        del stream, in_place
        rule = "TensorFlow does not say when its GPU has computed a tensor"
        mend = f"copy it to the CPU's memory with: {name}.numpy()"
        raise frameworks.refusal(name, value, rule, mend)


NONE: Framework = TvmFfi()
"""Where no argument is on the GPU."""

_OTHER = Framework()
_KNOWN: dict[str, Framework] = {
    "torch": PyTorch(),
    "cupy": CuPy(),
    "jax": Jax(),
    "tensorflow": TensorFlow(),
}


def framework_of(value: object) -> Framework:
    """Return the framework that an array on a GPU is of."""
    if isinstance(value, tvm_ffi.Tensor):
        return NONE
    return _KNOWN.get(frameworks.family(value), _OTHER)


def _indirect(name: str, value: Any) -> ArrayError:
    rule = f"it must be C-contiguous, and start at a multiple of {cuda_memory.ALIGNMENT} bytes"
    return frameworks.refusal(name, value, rule)


def _module(name: str) -> Any:
    return sys.modules[name]
