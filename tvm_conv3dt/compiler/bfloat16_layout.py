"""What the layouts for products of bfloat16 share, whichever instruction multiplies."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_conv3dt.compiler.elements import STORED_BFLOAT16
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.spec import Workload

__all__ = ["Bfloat16Layout"]


@dataclass(frozen=True)
class Bfloat16Layout(Layout):
    """A workload whose factors are bfloat16 until they are multiplied; attributes as those of `Layout`."""

    @classmethod
    def fits(cls, workload: Workload) -> bool:
        """Whether there is such a layout of a workload."""
        return workload.product_dtype == "bfloat16" and workload.reached

    @property
    def padded(self) -> bool:
        """Whether the rows of the input are copied: always, as the instructions take them."""
        return True

    @property
    def packed_dtype(self) -> str:
        """The dtype of packed filters: bfloat16, as compiled code takes it."""
        return STORED_BFLOAT16

    @property
    def rounds_at_the_end(self) -> bool:
        """Whether casts to bfloat16 are left to `tvm_conv3dt.compiler.rounding`: always."""
        return True

    @property
    def itemsize(self) -> int:
        """Bytes of an element of the rows that are copied."""
        return 2
