"""What the layouts for a CPU's matrix unit share: the unit's sizes, and what it takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tvm_conv3dt.compiler.elements import STORED_BFLOAT16
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.spec import Workload

__all__ = ["DEPTH", "SQUARE", "UnitLayout"]

SQUARE = 16
"""Rows, and columns, of one product of the unit."""

DEPTH = 32
"""Input channels of one product."""


@dataclass(frozen=True)
class UnitLayout(Layout):
    """A workload for a unit that adds products of pairs of bfloat16, all of a square in one instruction.

    `tvm_conv3dt.compiler.amx` has the instructions. Attributes are those of `Layout`.
    """

    @classmethod
    def fits(cls, workload: Workload) -> bool:
        """Whether there is such a layout of a workload."""
        return workload.product_dtype == "bfloat16" and workload.reached

    @property
    def padded(self) -> bool:
        """Whether the rows of the input are copied: always, with zeros around them."""
        return True

    @cached_property
    def packed_channels(self) -> int:
        """Input channels, with the zeros that fill up the last product's."""
        return -(-self.workload.in_channels // DEPTH) * DEPTH

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
        """Bytes of an element that is computed with."""
        return 2
