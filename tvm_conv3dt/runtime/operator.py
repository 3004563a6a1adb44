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
from tvm_conv3dt.runtime import arrays
from tvm_conv3dt.runtime.host_place import HostPlace

if TYPE_CHECKING:
    from tvm_conv3dt.level import Kernel
    from tvm_conv3dt.manifest import Layer
    from tvm_conv3dt.runtime.library import Library
    from tvm_conv3dt.runtime.place import Call, Place
    from tvm_conv3dt.spec import Workload

__all__ = ["Operator"]

_LARGE = 2.0**50


@dataclass(frozen=True)
class _Slow:
    """Filters that are not finite, or too large for sums: the reference serves them, since kernels would spread NaN."""

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
        place: Place | None = None,
    ) -> None:
        self._place: Place = place or HostPlace()
        self._layer = layer
        self._kernel = kernel
        self._library = library  # as long as its code may run
        self._dtype = layer.workload.numpy_dtype
        self._shapes = layer.workload.input, layer.workload.output_shape
        self._run = library.function(layer.run_symbol)
        self._pack = library.function(layer.pack_symbol)
        # One value, so that a call beside `set_filters` takes both of the same filters.
        self._filters: tuple[tuple[Any, ...], _Slow | None] = (), None
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
    def place(self) -> Place:
        """The memory that its kernels work on."""
        return self._place

    @property
    def workspace_bytes(self) -> int:
        """Memory that one call takes beside its arguments and the packed filters, in bytes."""
        return self._kernel.workspace_bytes

    def set_filters(self, filters: object, bias: object = None) -> None:
        """Pack other filters; calls that run meanwhile, or are queued on a GPU, finish with the former ones.

        On a GPU the former ones' memory is given back when the last call that was begun with them has returned, which
        waits until the GPU has run it. A CUDA graph that has captured a call keeps their address and not their memory:
        let no `set_filters` follow while it is in use, and keep the operator.

        Parameters
        ----------
        filters : array-like
            Shape ``[kd, kh, kw, out_channels, in_channels]``, of the workload's dtype, and any that `x` may be. They
            are copied, also from and to a GPU.
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
        packed = self._allocate_packed()
        with self._place.packing():
            self._invoke(self._pack, self._place.tensor(source), packed)
        constants = (packed,) if held is None else (packed, self._place.tensor(held))
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

            On a GPU, for a bundle that is for one, arrays on that GPU are used in place, on their framework's current
            stream: PyTorch's, CuPy's, and tensors of tvm-ffi on its own. The call then returns before the result is
            there, as theirs do. JAX's arrays, and others that export DLPack, are waited for, and so is the result.
            Arrays in the CPU's memory are copied to the GPU and the result back, which is convenient and slow.
        out : array or None
            Where to write the result: shape and dtype of the output, writable, not over `x`. A NumPy array, a tensor
            of PyTorch, or one that exports writable memory by DLPack. Without it the result is in memory of its
            own, that of an earlier one where that is gone, since the system takes long to provide large memory. It may
            be on the GPU or in the CPU's memory, wherever `x` is.

        Returns
        -------
        array
            `out`, or a new one of the framework that `x` is of.

        Raises
        ------
        ArgumentTypeError
            If an array has another dtype, or is no array.
        ArrayError
            If a shape does not fit, values are not to be had (on another device or GPU, sparse, masked, traced, recorded for
            gradients), or `out` cannot be written to or lies over `x`.
        LibraryError
            If the compiled code reports a failure.
        """
        constants, slow = self._filters
        if slow is None:
            direct = self._place.direct(x, out, self._shapes, self._dtype)
            if direct is not None:
                read, written, result = direct
                self._invoke(self._run, read, *constants, written)
                return result
        with self._place.call(x, out, self._dtype) as call:
            batches = self._batches(call.shape)
            batch, *rest = self.workload.output_shape
            call.prepare((batches * batch, *rest))
            self._compute(call, batches)
            return call.result()

    def empty(self) -> Any:
        """Return a new array for `out`, with undefined content.

        On the CPU it is NumPy's, aligned as the compiled code likes it best; results in an array from elsewhere are the
        same and, on CPUs with wide vectors, later. On a GPU it is a tensor of tvm-ffi, which exports DLPack.
        """
        return self._place.empty(self.workload.output_shape, self._dtype)

    def upload(self, array: npt.NDArray[Any]) -> Any:
        """Return a NumPy array where calls use it in place, for calls that need no framework.

        On a GPU it is a copy, a tensor of tvm-ffi. Calls with such tensors are queued on tvm-ffi's stream; `synchronize`
        waits for them. On the CPU it is the array itself, or a copy aligned to 64 bytes, as results and other frameworks' tensors
        are: where input channels are in the lanes of vectors, calls with another take up to a quarter longer.
        """
        return self._place.upload(array)

    def download(self, y: Any) -> npt.NDArray[Any]:
        """Return a result as a NumPy array, of the workload's dtype; from a GPU it is a copy.

        Raises
        ------
        ArgumentTypeError, ArrayError
            If it has another dtype, or its values are not to be had.
        """
        return self._place.download(y, self._dtype)

    def synchronize(self) -> None:
        """Wait for calls with tensors of tvm-ffi that were queued on a GPU; on the CPU none are."""
        self._place.synchronize()

    def __repr__(self) -> str:
        return f"<Operator {self.name}: {self.workload.id}>"

    def _compute(self, call: Call, batches: int) -> None:
        constants, slow = self._filters
        if slow is None:
            run = self._run
            call.run(lambda x, y: self._invoke(run, x, *constants, y), batches)
        else:
            workload, held = self.workload, slow
            call.compute(lambda x: reference(workload, x, held.filters, held.bias), batches)

    def _checked(self, name: str, value: object, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        array = self._place.constant(name, value, self._dtype)
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
        """Whether the kernel's zeros around the input would show, or zeros among a filter's pieces: zero times infinity is NaN.

        Kernels that add filters up, of the formulation ``winograd-``, take none that are very large either: sums of them would
        overflow.
        """
        # Kernels of earlier versions have zeros around for taps that reach nothing too.
        axes = (each if each.input > 1 else each.reduced() for each in self.workload.axes)
        around = any(any(axis.halo) for axis in axes)
        in_pieces = numpy_dtype(self._kernel.packed_dtype).itemsize < self._dtype.itemsize
        if self._kernel.schedule.formulation.startswith("winograd-"):
            return not bool(np.abs(filters).max() <= _LARGE)
        if not (around or in_pieces):
            return False
        # Infinities and NaN survive a sum, which needs no memory. Only large float64 overflow one without them.
        with np.errstate(all="ignore"):
            if np.isfinite(filters.sum(dtype=np.float64)):
                return False
        return not np.isfinite(filters).all()

    def _allocate_packed(self) -> Any:
        shape = self._kernel.packed_shape
        try:
            return self._place.packed(shape, numpy_dtype(self._kernel.packed_dtype))
        except (MemoryError, ValueError, OverflowError) as error:
            rule = "no array of this shape can be allocated"
            raise FileFormatError(
                describe("read", "manifest", f"packed_shape={list(shape)}", rule)
            ) from error

    def _invoke(self, function: Any, *tensors: Any) -> None:
        try:
            function(*tensors)
        except Conv3dtError:
            raise
        except Exception as error:  # what tvm-ffi makes of a failed check or a failed allocation
            value = f"layer {self.name!r}"
            rule = f"the compiled code reports: {' '.join(str(error).split())}"
            raise LibraryError(describe("run", "kernel", value, rule)) from error
