"""One compiled workload with its filters: a callable from input to output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tvm_conv3dt import memory
from tvm_conv3dt.bfloat16 import numpy_dtype
from tvm_conv3dt.errors import ArrayError, Conv3dtError, FileFormatError, LibraryError, describe
from tvm_conv3dt.reference import reference
from tvm_conv3dt.runtime import arrays, frameworks, thread_pool

if TYPE_CHECKING:
    from tvm_conv3dt.level import Kernel
    from tvm_conv3dt.manifest import Layer
    from tvm_conv3dt.runtime.library import Library
    from tvm_conv3dt.spec import Workload

__all__ = ["Operator"]


@dataclass(frozen=True)
class _Slow:
    """Filters that are not finite: the reference serves them, since kernels would spread NaN at borders."""

    filters: npt.NDArray[Any]
    bias: npt.NDArray[Any] | None


class Operator:
    """A compiled workload with packed filters; made by `Bundle.operator`.

    Call it with an input to get the output. Several Python threads may call one operator at once, each
    with its own arrays; each then uses as many threads as `set_num_threads` says.
    """

    def __init__(
        self,
        layer: Layer,
        kernel: Kernel,
        library: Library,
        filters: object,
        bias: object = None,
    ) -> None:
        self._layer = layer
        self._kernel = kernel
        self._library = library  # as long as its code may run
        self._dtype = layer.workload.numpy_dtype
        self._run = library.function(layer.run_symbol)
        self._pack = library.function(layer.pack_symbol)
        # One value, so that a call beside `set_filters` takes both of the same filters.
        self._filters: tuple[tuple[Any, ...], _Slow | None] = (), None
        self._reserve = memory.Reserve()
        self.set_filters(filters, bias)

    @property
    def name(self) -> str:
        """The layer's name in its bundle."""
        return self._layer.name

    @property
    def workload(self) -> Workload:
        """What the operator computes."""
        return self._layer.workload

    @property
    def workspace_bytes(self) -> int:
        """Memory that one call takes beside its arguments and the packed filters, in bytes."""
        return self._kernel.workspace_bytes

    def set_filters(self, filters: object, bias: object = None) -> None:
        """Pack other filters; calls that run meanwhile finish with the former ones.

        Parameters
        ----------
        filters : array-like
            Shape ``[kd, kh, kw, out_channels, in_channels]``, of the workload's dtype, and any that `x` may be. They
            are copied.
        bias : array-like or None
            Shape ``[out_channels]``, where the workload has a bias, else None. It is copied.

        Raises
        ------
        ArgumentTypeError
            If an array has another dtype, or is no array.
        ArrayError
            If a shape differs from the workload's, a bias is missing or too much, or values are not to be had.
        """
        workload = self.workload
        source = self._checked("filters", filters, workload.filters)
        if workload.bias and bias is None:
            rule = f"this workload adds a bias of shape [{workload.out_channels}]"
            raise ArrayError(describe("use", "array bias", "None", rule))
        if bias is not None and not workload.bias:
            rule = "this workload has no bias"
            mend = "name one that has: its id ends with _bias"
            raise ArrayError(describe("use", "array bias", f"workload {workload.id}", rule, mend))
        held = None
        if bias is not None:
            values = self._checked("bias", bias, (workload.out_channels,))
            held = memory.aligned_copy(values)
        packed = arrays.tensor(self._allocate_packed())
        thread_pool.prepare()
        self._invoke(self._pack, arrays.tensor(source), packed)
        constants = (packed,) if held is None else (packed, arrays.tensor(held))
        slow = _Slow(source.copy(), held) if self._needs_reference(source) else None
        self._filters = constants, slow

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Run the operator.

        Parameters
        ----------
        x : array-like
            The workload's input shape, or a batch that is a multiple of the workload's; of its dtype.
            A NumPy array, a tensor of PyTorch, TensorFlow or JAX, or anything else that exports DLPack from the CPU's
            memory. Any strides and alignment do; what is not C-contiguous, aligned to its elements and in
            native byte order is copied first.
        out : array or None
            Where to write the result: shape and dtype of the output, writable, not over `x`. A NumPy array, a tensor
            of PyTorch, or one that exports writable memory by DLPack. Without it the result is in memory of its
            own, that of an earlier one where that is gone, since the system takes long to provide large memory.

        Returns
        -------
        array
            `out`, or a new one of the framework that `x` is of.

        Raises
        ------
        ArgumentTypeError
            If an array has another dtype, or is no array.
        ArrayError
            If a shape does not fit, values are not to be had (on another device, sparse, masked, traced, recorded for
            gradients), or `out` cannot be written to or lies over `x`.
        LibraryError
            If the compiled code reports a failure.
        """
        dtype = self._dtype
        given = arrays.view("x", x, dtype)
        batches = self._batches(given.shape)
        batch, *rest = self.workload.output_shape
        shape = (batches * batch, *rest)
        if out is None:
            result = target = self._reserve.empty(shape, dtype)
        else:
            result = arrays.check_output(out, shape, dtype, given)
            target = result if arrays.is_direct(result) else memory.aligned_empty(shape, dtype)
        self._compute(arrays.direct(given, dtype), target, batches)
        if out is None:
            return frameworks.like(x, result)
        if target is not result:
            np.copyto(result, target)
        frameworks.mark_changed(out)
        return out

    def empty(self) -> npt.NDArray[Any]:
        """Return a new array for `out`, with undefined content.

        It is aligned as the compiled code likes it best; results in an array from elsewhere are the same and, on
        CPUs with wide vectors, later.
        """
        return memory.aligned_empty(self.workload.output_shape, self._dtype)

    def __repr__(self) -> str:
        return f"<Operator {self.name}: {self.workload.id}>"

    def _compute(self, source: npt.NDArray[Any], target: npt.NDArray[Any], batches: int) -> None:
        thread_pool.prepare()
        constants, slow = self._filters
        if batches == 1 and slow is None:
            self._invoke(self._run, arrays.tensor(source), *constants, arrays.tensor(target))
            return
        size, batch = self.workload.batch, self.workload.output_shape[0]
        for index in range(batches):
            part = source[index * size : (index + 1) * size]
            written = target[index * batch : (index + 1) * batch]
            if slow is None:
                self._invoke(self._run, arrays.tensor(part), *constants, arrays.tensor(written))
                continue
            values = reference(self.workload, part, slow.filters, slow.bias)
            with np.errstate(all="ignore"):  # an infinity where the dtype ends, as in compiled code
                written[...] = values

    def _checked(self, name: str, value: object, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        array = arrays.view(name, value, self._dtype)
        if array.shape != shape:
            rule = f"this workload takes the shape {list(shape)}"
            raise ArrayError(describe("use", f"array {name}", f"shape={list(array.shape)}", rule))
        return arrays.direct(array, self._dtype)

    def _batches(self, shape: tuple[int, ...]) -> int:
        expected = self.workload.input
        count, left = divmod(shape[0], expected[0]) if len(shape) == 5 else (0, 0)
        if count < 1 or left or shape[1:] != expected[1:]:
            rule = f"this workload takes the shape {list(expected)}, or a multiple of its batch"
            raise ArrayError(describe("use", "array x", f"shape={list(shape)}", rule))
        return count

    def _needs_reference(self, filters: npt.NDArray[Any]) -> bool:
        """Whether the kernel's zeros around the input would show: zero times infinity is NaN."""
        if not any(before or after for before, after in (a.halo for a in self.workload.phase_axes)):
            return False
        # Infinities and NaN survive a sum, which needs no memory. Only large float64 overflow one without them.
        with np.errstate(all="ignore"):
            if np.isfinite(filters.sum(dtype=np.float64)):
                return False
        return not np.isfinite(filters).all()

    def _allocate_packed(self) -> npt.NDArray[Any]:
        shape = self._kernel.packed_shape
        try:
            packed = memory.aligned_empty(shape, numpy_dtype(self._kernel.packed_dtype))
        except (MemoryError, ValueError, OverflowError) as error:
            rule = "no array of this shape can be allocated"
            raise FileFormatError(
                describe("read", "manifest", f"packed_shape={list(shape)}", rule)
            ) from error
        return packed

    def _invoke(self, function: Any, *tensors: Any) -> None:
        try:
            function(*tensors)
        except Conv3dtError:
            raise
        except Exception as error:  # what tvm-ffi makes of a failed check or a failed allocation
            value = f"layer {self.name!r}"
            rule = f"the compiled code reports: {' '.join(str(error).split())}"
            raise LibraryError(describe("run", "kernel", value, rule)) from error
