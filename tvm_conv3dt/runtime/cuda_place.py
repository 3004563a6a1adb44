"""A GPU's memory, where an operator of a CUDA bundle finds its arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm_ffi

from tvm_conv3dt import memory
from tvm_conv3dt.runtime import arrays, cuda_memory, frameworks
from tvm_conv3dt.runtime.cuda_call import CudaCall
from tvm_conv3dt.runtime.cuda_frameworks import NO_WAIT, NONE
from tvm_conv3dt.runtime.device_arrays import framework_on, tensor_of
from tvm_conv3dt.runtime.host_place import Shapes

__all__ = ["CudaPlace"]

Array = npt.NDArray[Any]


class CudaPlace:
    """The memory of one GPU; see `place.Place`.

    Packed filters are memory of the runtime's own, which outlives the last call that was queued with them: giving it
    back waits for the GPU.

    Parameters
    ----------
    index : int
        Which GPU, as CUDA counts those that the process may use.
    device : str
        Its kind, in tvm-ffi's names.
    """

    def __init__(self, index: int = 0, device: str = "cuda") -> None:
        self.device = tvm_ffi.device(device, index)

    def constant(self, name: str, value: object, dtype: np.dtype[Any]) -> Array:
        """Return filters or a bias in the CPU's memory: a copy, where they are on a GPU, whichever."""
        found = frameworks.device_of(value)
        if found is None or found[0] != self.device.dlpack_device_type():
            return arrays.view(name, value, dtype)
        return self._downloaded(name, value, dtype)

    def tensor(self, array: Array) -> Any:
        """Return a copy of an array on the GPU."""
        return cuda_memory.upload(array, self.device)

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        """Return a new tensor of tvm-ffi on the GPU."""
        return cuda_memory.empty(shape, dtype.name, self.device)

    def packed(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        """Return a new tensor for packed filters."""
        return cuda_memory.empty(shape, cuda_memory.stored_name(dtype), self.device)

    @contextlib.contextmanager
    def packing(self) -> Iterator[None]:
        """Pack on CUDA's default stream, and wait for it, so that calls may follow on any."""
        with tvm_ffi.use_raw_stream(self.device, 0):
            yield
        cuda_memory.synchronize(self.device, 0)

    def direct(self, x: Any, out: Any, shapes: Shapes, dtype: np.dtype[Any]) -> None:
        """Return None: a stream is to be found for every call."""
        del x, out, shapes, dtype

    def call(self, x: Any, out: Any, dtype: np.dtype[Any]) -> CudaCall:
        """Return one call's arrays, on the caller's stream."""
        return CudaCall(self.device, x, out, dtype)

    def upload(self, array: Array) -> Any:
        """Return a copy of a NumPy array as a tensor of tvm-ffi on the GPU."""
        native = array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")
        tensor = self.empty(array.shape, native)
        cuda_memory.overwrite(tensor, np.ascontiguousarray(array, native))
        return tensor

    def download(self, value: Any, dtype: np.dtype[Any]) -> Array:
        """Return a copy of an array on the GPU as NumPy's."""
        if framework_on(self.device, "y", value) is None:
            return arrays.view("y", value, dtype)
        return self._downloaded("y", value, dtype)

    def synchronize(self) -> None:
        """Wait for tvm-ffi's stream."""
        cuda_memory.synchronize(self.device, NONE.stream(self.device))

    def divisible(self, name: str, value: Any, dtype: np.dtype[Any]) -> Any:
        """Return an array whose framework gives slices as it is, or one in the CPU's memory as NumPy's."""
        framework = framework_on(self.device, name, value)
        if framework is None:
            return arrays.view(name, value, dtype)
        tensor_of(name, value, framework, dtype, NO_WAIT)  # for what it checks
        if not framework.divisible and framework.joiner() is None:
            rule = "operators of groups take slices of its channels, and it gives none"
            mend = "make it an array of PyTorch or CuPy, which share its memory"
            raise frameworks.refusal(name, value, rule, mend)
        return value

    def joiner(self, x: Any) -> Callable[[Sequence[Any], int], Any] | None:
        """Return JAX's own way for its arrays."""
        framework = framework_on(self.device, "x", x)
        return None if framework is None else framework.joiner()

    def target(self, out: Any, x: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Return `out`, as NumPy's where it is in the CPU's memory, or a new array of the framework of `x`."""
        reads = framework_on(self.device, "x", x)
        if out is None:
            if reads is None:
                return memory.aligned_empty(shape, dtype)
            return reads.empty(shape, dtype, self.device)
        writes = framework_on(self.device, "out", out)
        if writes is None:
            return arrays.check_output(out, shape, dtype, None if reads else x)
        tensor = tensor_of("out", out, writes, dtype, NO_WAIT, in_place=True)
        read = None
        if reads is not None:
            read = cuda_memory.addresses(tensor_of("x", x, reads, dtype, NO_WAIT))
        arrays.check_target(cuda_memory.addresses(tensor), shape, read)
        return self.divisible("out", out, dtype)

    def given(self, result: Any, out: Any, x: Any) -> Any:
        """Return `out`, or the result as an array of the framework of `x`."""
        if out is None:
            return frameworks.like(x, result) if isinstance(result, np.ndarray) else result
        frameworks.mark_changed(out)
        return out

    def _downloaded(self, name: str, value: object, dtype: np.dtype[Any]) -> Array:
        found = frameworks.device_of(value)
        assert found is not None
        device = tvm_ffi.device(str(self.device).partition(":")[0], found[1])
        framework = framework_on(device, name, value)
        assert framework is not None
        with framework.active(device):
            stream = framework.stream(device)
            wanted = NO_WAIT if framework.ordered else stream
            tensor = tensor_of(name, value, framework, dtype, wanted)
            if not tensor.is_contiguous():
                value = framework.compact(name, value, device)
                tensor = tensor_of(name, value, framework, dtype, wanted)
            cuda_memory.synchronize(device, stream)
            array = memory.aligned_empty(tuple(tensor.shape), dtype)
            cuda_memory.download(tensor, array)
        return array
