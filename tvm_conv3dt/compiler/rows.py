"""What the layouts of all formulations say of rows: whether they are turned, and in what they are computed."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from tvm_conv3dt.compiler.elements import turns
from tvm_conv3dt.spec import Workload

__all__ = ["Rows"]


class Rows:
    """A layout's rows, as far as the workload alone decides on them."""

    workload: Workload

    @cached_property
    def turned(self) -> bool:
        """Whether the input is copied with its channels last: see `tvm_conv3dt.compiler.turning`."""
        return turns(self.workload, self.workload.in_channels) and self.workload.reached

    @cached_property
    def turned_back(self) -> bool:
        """Whether the results have their channels last, and are turned into the output."""
        return turns(self.workload, self.workload.out_channels)

    @property
    def itemsize(self) -> int:
        """Bytes of an element that is computed with."""
        return np.dtype(self.workload.sum_dtype).itemsize
