"""What the layouts for a CPU's matrix unit share: the unit's sizes, and what it takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tvm_conv3dt.compiler.bfloat16_layout import Bfloat16Layout

__all__ = ["DEPTH", "REGISTERS", "SQUARE", "UnitLayout"]

SQUARE = 16
"""Rows, and columns, of one product of the unit."""

DEPTH = 32
"""Input channels of one product."""

REGISTERS = 8
"""Registers of the unit: of sums, or of operands."""


@dataclass(frozen=True)
class UnitLayout(Bfloat16Layout):
    """A workload for a unit that adds products of pairs of bfloat16, all of a square in one instruction.

    `tvm_conv3dt.compiler.amx` has the instructions. Attributes are those of `Layout`.
    """

    @cached_property
    def packed_channels(self) -> int:
        """Input channels, with the zeros that fill up the last product's."""
        return -(-self.workload.in_channels // DEPTH) * DEPTH
