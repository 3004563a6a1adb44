"""How a workload is laid out for products of blocks: pairs of positions, pairs of channels, and the packed filters.

An instruction multiplies two positions by two output channels, each by four input channels (`tvm_conv3dt.compiler.mmla`). The two
positions of a block are of the two halves of a row: the first and the first of the second half, and so on. So rows of the input are
copied woven, four channels of a position and the same four of its partner, and each is copied once; where two halves were neighbours,
a tap would part them. A row of an odd number has its middle in both halves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tvm_conv3dt.compiler.bfloat16_layout import Bfloat16Layout
from tvm_conv3dt.compiler.layout import PHASES
from tvm_conv3dt.compiler.mmla import BLOCK, DEPTH
from tvm_conv3dt.spec import Workload

__all__ = ["MMLA", "MmlaLayout"]

MMLA = "mmla-"
"""What the names of these formulations begin with; the rest is that of a `Layout`: ``"mmla-phases"``."""


@dataclass(frozen=True)
class MmlaLayout(Bfloat16Layout):
    """A workload for products of blocks; attributes as those of `Layout`, with 4 lanes: the channels of two blocks."""

    @classmethod
    def of(cls, workload: Workload, folding: str = PHASES) -> MmlaLayout:
        """Make the layout with a folding of phases."""
        return cls(workload, BLOCK * BLOCK, folding)

    @classmethod
    def fits(cls, workload: Workload) -> bool:
        """Whether there is such a layout of a workload: of bfloat16 products, where no row is turned."""
        return super().fits(workload) and not cls.of(workload).turns_rows

    @property
    def name(self) -> str:
        """The formulation as schedules tell it: ``"mmla-phases"``."""
        return MMLA + self.formulation

    @cached_property
    def margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows of zeros of depth and height before and after those of the input."""
        depth, height = self._row_halo
        return depth, height

    @property
    def columns(self) -> int:
        """Pairs of positions of a row."""
        return -(-self.axes[2].quotients // BLOCK)

    @property
    def partner(self) -> int:
        """How far the second position of a pair is from the first."""
        return self.axes[2].quotients - self.columns

    @property
    def row_length(self) -> int:
        """Pairs of positions of a copied row, those counted in that taps read beyond the last pair."""
        width = self.axes[2]
        return self.columns + sum(self.halo) + width.input - width.quotients

    @property
    def quads(self) -> int:
        """Input channels by fours; zeros fill up the last."""
        return -(-self.workload.in_channels // DEPTH)

    @property
    def packed_channels(self) -> int:
        """Input channels, with the zeros that fill up the last four."""
        return DEPTH * self.quads

    @cached_property
    def packed_shape(self) -> tuple[int, ...]:
        """Shape of the packed filters: ``[blocks, td, th, tw, quads, 2 blocks, 2 channels, 4]``."""
        *outer, _, _ = super().packed_shape
        return (*outer, self.quads, BLOCK, BLOCK, DEPTH)
