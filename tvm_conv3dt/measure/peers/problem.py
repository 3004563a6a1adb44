"""One layer's data in the forms that frameworks take, and what a framework gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tvm_conv3dt.bfloat16 import numpy_dtype
from tvm_conv3dt.memory import aligned_copy
from tvm_conv3dt.reference import random_data
from tvm_conv3dt.spec import Workload

__all__ = [
    "HALF_TOLERANCE",
    "HALVES",
    "Array",
    "Prepare",
    "Problem",
    "Report",
    "Started",
    "Variant",
]

Array = npt.NDArray[Any]
Report = Callable[[str], None]

HALVES = ("float16", "bfloat16")
"""The half types."""

HALF_TOLERANCE = 2.0**-6
"""Largest error of a result in arithmetic of a half type, as a share of the largest result.

Ours is rounded once, at its end. Others may round between product, bias and activation, and every part of a sum. That
is a few of bfloat16's roundings of 2**-9; a result that is shifted by one position is far above.
"""


@dataclass(frozen=True)
class Problem:
    """A workload and its arrays; the same in every process, since they come from one seed.

    A framework that takes minutes to prepare it calls `report` now and then, with what it is about.
    """

    workload: Workload
    x: Array
    filters: Array
    bias: Array | None
    report: Report = lambda text: None

    @classmethod
    def of(cls, workload: Workload, report: Report = lambda text: None) -> Problem:
        """Return the problem of a workload, on random data; the input is aligned as frameworks' own tensors are."""
        x, filters, bias = random_data(workload, seed=0)
        return cls(workload, aligned_copy(x), filters, bias, report)

    def cast(self, dtype: str) -> Problem:
        """Return the same values as another dtype."""
        kind = numpy_dtype(dtype)
        x, filters = (each.astype(kind, copy=False) for each in (self.x, self.filters))
        bias = None if self.bias is None else self.bias.astype(kind, copy=False)
        return Problem(self.workload.recast(dtype=dtype), x, filters, bias, self.report)

    @property
    def channels_first(self) -> Array:
        """The input as contiguous NCDHW."""
        if self.workload.data_format == "NCDHW":
            return self.x
        return aligned_copy(np.moveaxis(self.x, -1, 1))

    @property
    def channels_last(self) -> Array:
        """The input as contiguous NDHWC."""
        if self.workload.data_format == "NDHWC":
            return self.x
        return aligned_copy(np.moveaxis(self.x, 1, -1))

    @property
    def filters_by_channels(self) -> Array:
        """The filters as contiguous ``[in, out, kd, kh, kw]``, which ONNX and PyTorch take."""
        return np.ascontiguousarray(self.filters.transpose(4, 3, 0, 1, 2))

    @property
    def pad_after(self) -> tuple[int, int, int]:
        """Positions cut off after depth, height and width; negative where zeros follow instead."""
        depth, height, width = (
            (axis.input - 1) * axis.stride
            + (axis.kernel - 1) * axis.dilation
            + 1
            - axis.pad
            - axis.output
            for axis in self.workload.axes
        )
        return depth, height, width

    def from_channels_first(self, y: Array) -> Array:
        """Return an NCDHW result in the workload's format, as a view."""
        return y if self.workload.data_format == "NCDHW" else np.moveaxis(y, 1, -1)

    def from_channels_last(self, y: Array) -> Array:
        """Return an NDHWC result in the workload's format, as a view."""
        return y if self.workload.data_format == "NDHWC" else np.moveaxis(y, -1, 1)


@dataclass(frozen=True)
class Variant:
    """One way of an implementation to compute a problem.

    Attributes
    ----------
    layout : str
        How its arrays lie in memory, as its users call it.
    output : str
        ``"fresh"`` where every call allocates its result, ``"reused"`` where calls share the memory.
    run : callable
        Without arguments; its result is complete when it returns, or after `wait`.
    array : callable or None
        Makes a NumPy array in the workload's format of what `run` returned; None where that is no result
        of the problem, and not to be checked. It waits for the result.
    wait : callable or None
        Waits for all calls that are only queued when `run` returns.
    tolerance : float or None
        Where it computes with less than the workload's dtype: the largest error allowed, as a share of the largest
        result.
    """

    layout: str
    output: Literal["fresh", "reused"]
    run: Callable[[], Any]
    array: Callable[[Any], Array] | None
    wait: Callable[[], object] | None = None
    tolerance: float | None = None


Prepare = Callable[[Problem], Sequence[Variant]]


@dataclass(frozen=True)
class Started:
    """A framework that is ready.

    Attributes
    ----------
    version : str
        Of the framework.
    prepare : callable
        Makes the variants of a problem, with arrays and filters in the framework's own form already.
    """

    version: str
    prepare: Prepare
