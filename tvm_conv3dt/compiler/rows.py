"""What the layouts of all formulations say of rows: whether they are copied and turned, and in what they are computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

from tvm_conv3dt.compiler.elements import turns
from tvm_conv3dt.spec import DTYPES, Workload

__all__ = ["Rows"]


class Rows(ABC):
    """A layout's rows."""

    workload: Workload

    @property
    @abstractmethod
    def padded(self) -> bool:
        """Whether the input's rows are copied for another reason than being turned."""

    @property
    @abstractmethod
    def margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows of depth and height before and after those of the input that copies of turned rows have."""

    @property
    @abstractmethod
    def packed_shape(self) -> tuple[int, ...]:
        """Shape of the packed filters."""

    @property
    def packed_dtype(self) -> str:
        """The dtype of packed filters."""
        return self.workload.sum_dtype

    @property
    def math_library(self) -> bool:
        """Whether functions are those of the target's library: see `tvm_conv3dt.compiler.activation`."""
        return False

    @property
    def unswitched(self) -> bool:
        """Whether loops over products have many conditions that do not change in them: see `tvm_conv3dt.compiler.target`."""
        return False

    @property
    def unrolled(self) -> bool:
        """Whether LLVM may write out turns of loops, beside those that are unrolled: see `tvm_conv3dt.compiler.target`."""
        return True

    @property
    def rounds_at_the_end(self) -> bool:
        """Whether casts to bfloat16 are left to `tvm_conv3dt.compiler.rounding`."""
        return False

    @cached_property
    def turned(self) -> bool:
        """Whether the input is copied with its channels last: see `tvm_conv3dt.compiler.turning`."""
        return turns(self.workload, self.workload.in_channels) and self.workload.reached

    @cached_property
    def turned_back(self) -> bool:
        """Whether the results have their channels last, and are turned into the output."""
        return turns(self.workload, self.workload.out_channels)

    @property
    def turns_rows(self) -> bool:
        """Whether rows are turned, those of the input or of the results."""
        return self.turned or self.turned_back

    @property
    def copied(self) -> bool:
        """Whether the kernel reads copies of the input's rows, for whichever reason."""
        return self.turned or self.padded

    @property
    def copied_channels(self) -> int:
        """Input channels of the rows that are copied, zeros counted in."""
        return self.workload.in_channels

    @property
    def row_sizes(self) -> tuple[int, int]:
        """Depth and height of what the kernel reads, margins counted in."""
        depth, height = (
            before + size + after
            for size, (before, after) in zip(
                self.workload.input_spatial, self.margins, strict=False
            )
        )
        return depth, height

    @property
    def itemsize(self) -> int:
        """Bytes of an element that is computed with."""
        return DTYPES[self.workload.sum_dtype]
