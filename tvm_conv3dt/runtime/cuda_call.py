"""One call of an operator on a GPU: its input and output where kernels can use them, on the caller's stream."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm_ffi

from tvm_conv3dt import memory
from tvm_conv3dt.runtime import arrays, cuda_memory, frameworks
from tvm_conv3dt.runtime.cuda_frameworks import NO_WAIT, NONE, Framework
from tvm_conv3dt.runtime.device_arrays import framework_on, tensor_of

__all__ = ["CudaCall"]

Array = npt.NDArray[Any]


class CudaCall:
    """The arrays of one call; see `place.Call`.

    The stream is that of the input's framework, else of the output's. The call is queued there, and returns at once
    where both are on the GPU and of one framework that is `ordered`. Else, and where an array is in the CPU's memory, it
    waits for that stream.
    """

    def __init__(self, device: Any, x: Any, out: Any, dtype: np.dtype[Any]) -> None:
        self._device = device
        self._dtype = dtype
        self._x, self._out = x, out
        self._reads = framework_on(device, "x", x)
        self._writes = None if out is None else framework_on(device, "out", out)
        self._leader = self._reads or self._writes or NONE
        self._wait = not self._leader.ordered or self._reads is None
        if out is not None and self._writes is not self._leader:
            self._wait = True
        self._scope = contextlib.ExitStack()
        self._shape: tuple[int, ...] = ()
        # What is read and written: arrays in the CPU's memory, or values of frameworks, and their tensors.
        self._given: Any = None
        self._result: Any = None
        self._target: Any = None
        self._source_tensor: Any = None
        self._target_tensor: Any = None

    def __enter__(self) -> CudaCall:
        with contextlib.ExitStack() as scope:
            scope.enter_context(self._leader.active(self._device))
            self._stream = self._leader.stream(self._device)
            scope.enter_context(tvm_ffi.use_raw_stream(self._device, self._stream))
            if self._reads is None:
                self._given = arrays.view("x", self._x, self._dtype)
                self._shape = self._given.shape
            else:
                self._given = self._tensor("x", self._x, self._reads)
                self._shape = tuple(self._given.shape)
            self._scope = scope.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._scope.close()

    @property
    def shape(self) -> tuple[int, ...]:
        """The input's shape."""
        return self._shape

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Make the input ready to be read, and the caller's output of that shape, or a new one, to be written."""
        if self._out is None:
            held = self._reads or NONE
            self._set_target(held, held.empty(shape, self._dtype, self._device))
        elif self._writes is None:
            x = None if self._reads else self._given
            self._result = arrays.check_output(self._out, shape, self._dtype, x)
            self._set_target(NONE, NONE.empty(shape, self._dtype, self._device))
        else:
            tensor = self._tensor("out", self._out, self._writes, in_place=True)
            x = cuda_memory.addresses(self._given) if self._reads else None
            arrays.check_target(cuda_memory.addresses(tensor), shape, x)
            if cuda_memory.is_direct(tensor):
                self._target, self._target_tensor = self._out, cuda_memory.whole(tensor)
            else:
                aside = self._writes.aside(self._out, shape, self._dtype, self._device)
                self._set_target(self._writes, aside)
        self._source_tensor = self._source()

    def run(self, kernel: Callable[[Any, Any], None], batches: int) -> None:
        """Queue `kernel(x, y)` for each batch, on tensors."""
        source, target = self._source_tensor, self._target_tensor
        for index in range(batches):
            written = self._batch(target, index, batches)
            if cuda_memory.is_direct(written):
                kernel(self._read(source, index, batches), written)
                continue
            # Where batches lie at odd addresses, which kernels cannot take.
            aside = cuda_memory.empty(written.shape, str(written.dtype), self._device)
            kernel(self._read(source, index, batches), aside)
            self._move(aside, written)

    def compute(self, function: Callable[[Array], Array], batches: int) -> None:
        """Have `function` compute each batch's result, of any dtype, on the CPU."""
        source = self._given if self._reads is None else self._downloaded(self._source_tensor)
        parts = [function(part) for part in np.split(source, batches)]
        with np.errstate(all="ignore"):  # an infinity where the dtype ends, as in compiled code
            values = np.concatenate(parts).astype(self._dtype)
        # What was queued before may still use the memory that is written now.
        cuda_memory.synchronize(self._device, self._stream)
        cuda_memory.overwrite(self._target_tensor, np.ascontiguousarray(values))

    def result(self) -> Any:
        """Return what the caller gets."""
        in_cpu_memory = self._reads is None if self._out is None else self._writes is None
        if in_cpu_memory:
            values = self._downloaded(self._target_tensor)
            if self._out is None:
                return frameworks.like(self._x, values)
            np.copyto(self._result, values)
            frameworks.mark_changed(self._out)
            return self._out
        if self._wait:
            cuda_memory.synchronize(self._device, self._stream)
        if self._out is None:
            assert self._reads is not None
            return self._reads.given(self._target, self._x)
        if self._target is not self._out:
            assert self._writes is not None
            self._writes.copy(self._out, self._target, self._device)
        frameworks.mark_changed(self._out)
        return self._out

    def _tensor(self, name: str, value: Any, framework: Framework, in_place: bool = False) -> Any:
        stream = NO_WAIT if framework is self._leader and framework.ordered else self._stream
        return tensor_of(name, value, framework, self._dtype, stream, in_place)

    def _set_target(self, framework: Framework, value: Any) -> None:
        """Let the result go to an array that `framework` has just made."""
        self._target = self._target_tensor = value
        if not isinstance(value, tvm_ffi.Tensor):
            stream = NO_WAIT if framework is self._leader else self._stream
            self._target_tensor = framework.tensor("out", value, stream, True)

    def _source(self) -> Any:
        if self._reads is None:
            return cuda_memory.upload(arrays.direct(self._given, self._dtype), self._device)
        if cuda_memory.is_direct(self._given):
            return cuda_memory.whole(self._given)
        copied = self._reads.compact("x", self._x, self._device)
        self._given = self._reads.tensor("x", copied, NO_WAIT, False)
        return cuda_memory.whole(self._given)

    def _batch(self, tensor: Any, index: int, batches: int) -> Any:
        """Return one batch as compiled code declares it."""
        first, *rest = tensor.shape
        shape = (first // batches, *rest)
        stored = cuda_memory.stored_name(self._dtype)
        if batches == 1 and str(tensor.dtype) == stored:
            return tensor
        size = cuda_memory.size_of(shape, self._dtype)
        return cuda_memory.part(tensor, shape, stored, index * size)

    def _read(self, tensor: Any, index: int, batches: int) -> Any:
        part = self._batch(tensor, index, batches)
        if cuda_memory.is_direct(part):
            return part
        aside = cuda_memory.empty(part.shape, str(part.dtype), self._device)
        self._move(part, aside)
        return aside

    def _move(self, source: Any, target: Any) -> None:
        """Copy one tensor to another on the GPU, in the order of the call's stream."""
        cuda_memory.synchronize(self._device, self._stream)
        cuda_memory.move(source, target, self._device)

    def _downloaded(self, tensor: Any) -> Array:
        cuda_memory.synchronize(self._device, self._stream)
        array = memory.aligned_empty(tuple(tensor.shape), self._dtype)
        cuda_memory.download(tensor, array)
        return array
