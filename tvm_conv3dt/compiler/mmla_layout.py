"""How a workload is laid out for products of blocks: pairs of positions, pairs of channels, and the packed filters.

An instruction multiplies two positions by two output channels, each by four input channels (`tvm_conv3dt.compiler.mmla`). The two
positions of a block are of the two halves of a row: the first and the first of the second half, and so on. So rows of the input are
copied woven, four channels of a position and the same four of its partner, and each is copied once; where two halves were neighbours,
a tap would part them. A row of an odd number has its middle in both halves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tvm_conv3dt.compiler.elements import STORED_BFLOAT16
from tvm_conv3dt.compiler.layout import PHASES, Layout
from tvm_conv3dt.compiler.mmla import BLOCK, DEPTH
from tvm_conv3dt.spec import Workload

__all__ = ["MMLA", "MmlaLayout"]

MMLA = "mmla-"
"""What the names of these formulations begin with; the rest is that of a `Layout`: ``"mmla-phases"``."""


@dataclass(frozen=True)
class MmlaLayout(Layout):
    """A workload for products of blocks; attributes as those of `Layout`, with 4 lanes: the channels of two blocks."""

    @classmethod
    def of(cls, workload: Workload, folding: str = PHASES) -> MmlaLayout:
        """Make the layout with a folding of phases."""
        return cls(workload, BLOCK * BLOCK, folding)

    @classmethod
    def fits(cls, workload: Workload) -> bool:
        """Whether there is such a layout of a workload: of bfloat16 products, where no row is turned."""
        layout = cls.of(workload)
        turned = layout.turned or layout.turned_back
        return workload.product_dtype == "bfloat16" and workload.reached and not turned

    @property
    def name(self) -> str:
        """The formulation as schedules tell it: ``"mmla-phases"``."""
        return MMLA + self.formulation

    @property
    def padded(self) -> bool:
        """Whether the rows of the input are copied: always, woven and with zeros around them."""
        return True

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

    @property
    def copied_channels(self) -> int:
        """Input channels of the rows that are copied."""
        return self.packed_channels

    @cached_property
    def packed_shape(self) -> tuple[int, ...]:
        """Shape of the packed filters: ``[blocks, td, th, tw, quads, 2 blocks, 2 channels, 4]``."""
        *outer, _, _ = super().packed_shape
        return (*outer, self.quads, BLOCK, BLOCK, DEPTH)

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
