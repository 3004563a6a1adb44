"""How a workload is laid out where few output channels share a vector with parts of the input channels.

With 4 output channels and 16 lanes each channel has 4 lanes that follow each other, and each of them adds up a quarter of the products: that
of input channel 0, 4, 8, … the first, 1, 5, 9, … the second. No lane is idle, and the lanes of a channel are added when all products are. What
the lanes read of the input is a short run of channels, again and again: see `tvm_conv3dt.compiler.shuffling`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.spec import Workload

__all__ = ["PARTS", "PartLayout"]

PARTS = "parts-"
"""What the names of these formulations begin with; the rest is that of a `Layout`: ``"parts-phases"``."""


@dataclass(frozen=True)
class PartLayout(Layout):
    """A workload whose lanes share output channels; attributes as those of `Layout`."""

    @classmethod
    def fits(cls, workload: Workload, lanes: int, formulation: str) -> bool:
        """Whether several lanes are left for each output channel, and there is something to add in them."""
        return cls(workload, lanes, formulation).parts > 1 and workload.reached

    @property
    def name(self) -> str:
        """The formulation as schedules tell it: ``"parts-phases"``."""
        return PARTS + self.formulation

    @cached_property
    def parts(self) -> int:
        """Lanes of a vector of sums that have the same output channel: a power of two, no more than there are input channels."""
        most = 1 << (self.workload.in_channels.bit_length() - 1)
        return min(most, self.lanes // max(2, 1 << (self.channels - 1).bit_length()))

    @property
    def stored_lanes(self) -> int:
        """Lanes of a vector of results: two or more."""
        return self.lanes // self.parts

    @property
    def padded(self) -> bool:
        """Whether the rows of the input are copied: they need zeros around them, or more channels."""
        return super().padded or self.packed_channels > self.workload.in_channels

    @property
    def sum_channels(self) -> int:
        """Turns of the sum over input channels."""
        return -(-self.workload.in_channels // self.parts)

    @property
    def multiplications(self) -> float:
        """Multiplications of one lane, for one position; mean over phases."""
        return self.mean_taps * self.sum_channels

    @property
    def packed_channels(self) -> int:
        """Input channels, with the zeros that fill up the last turn."""
        return self.sum_channels * self.parts

    @cached_property
    def packed_shape(self) -> tuple[int, ...]:
        """Shape of the packed filters: ``[1, td, th, tw, sum_channels, lanes]``."""
        *outer, _, lanes = super().packed_shape
        return (*outer, self.sum_channels, lanes)
