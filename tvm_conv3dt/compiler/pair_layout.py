"""How a workload is laid out where output channels are in the lanes, and each lane multiplies pairs of input channels.

The rows of the input are copied as bfloat16, half the bytes of those that `tvm_conv3dt.compiler.layout` has. A pair of a
position's channels is what all lanes have in common; filters are packed in pairs to match (`tvm_conv3dt.compiler.pair_products`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tvm_conv3dt.compiler.bfloat16_layout import Bfloat16Layout
from tvm_conv3dt.spec import Workload

__all__ = ["PAIRS", "PairLayout"]

PAIRS = "pairs-"
"""What the names of these formulations begin with; the rest is that of a `Layout`: ``"pairs-phases"``."""


@dataclass(frozen=True)
class PairLayout(Bfloat16Layout):
    """A workload whose lanes multiply pairs; attributes as those of `Layout`."""

    @classmethod
    def fits(cls, workload: Workload) -> bool:
        """Whether there is such a layout of a workload: of bfloat16 products, where no row is turned."""
        return super().fits(workload) and not cls(workload, 1).turns_rows

    @property
    def name(self) -> str:
        """The formulation as schedules tell it: ``"pairs-phases"``."""
        return PAIRS + self.formulation

    @property
    def sum_channels(self) -> int:
        """Pairs of input channels; a zero fills up the last."""
        return -(-self.workload.in_channels // 2)

    @property
    def packed_channels(self) -> int:
        """Input channels, with the zero that fills up the last pair."""
        return 2 * self.sum_channels

    @cached_property
    def packed_shape(self) -> tuple[int, ...]:
        """Shape of the packed filters: ``[blocks, td, th, tw, pairs, lanes, 2]``."""
        *outer, _, lanes = super().packed_shape
        return (*outer, self.sum_channels, lanes, 2)
