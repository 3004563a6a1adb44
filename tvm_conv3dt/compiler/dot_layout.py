"""How a workload of few output channels is laid out: input channels are what a vector holds.

One output is then a dot product, accumulated in a vector of its own whose lanes are added up at the end. The outputs
that stand together in a row of the output, all phases of the width and all channels, are computed
together: as many as a vector has lanes, so that their sums are one vector again. No tap is multiplied by
zero, and the input is read where it lies.

bfloat16 may be read in pairs of channels, a pair in each lane (`tvm_conv3dt.compiler.pair_products`). Their filters are pairs
too, for the instruction that multiplies pairs, or float32, lower halves apart from upper ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from tvm_conv3dt.compiler.elements import STORED_BFLOAT16
from tvm_conv3dt.compiler.rows import Rows
from tvm_conv3dt.phases import Axis
from tvm_conv3dt.spec import Workload

__all__ = ["DOT", "DOT_HALVES", "DOT_PAIRS", "DotLayout"]

DOT = "dot"
"""The name of this formulation."""

DOT_PAIRS = "dot-pairs"
"""That of the one with pairs of channels in the lanes, of the input and of filters."""

DOT_HALVES = "dot-halves"
"""That of the one with pairs of the input's channels, whose filters are float32."""

_ROWS = 4


@dataclass(frozen=True)
class DotLayout(Rows):
    """A workload with the number of lanes of a vector.

    Attributes
    ----------
    workload : Workload
    lanes : int
        Input channels of one block, or pairs of them: the elements of the target's vector.
    formulation : str
        `DOT`, `DOT_PAIRS` or `DOT_HALVES`.
    """

    workload: Workload
    lanes: int
    formulation: str = DOT
    folded: ClassVar[tuple[bool, bool, bool]] = (False, False, False)
    halo: ClassVar[tuple[int, int]] = (0, 0)

    @property
    def padded(self) -> bool:
        """Whether the input's rows are copied for another reason than being turned: they are read where they lie."""
        return False

    @classmethod
    def fits(cls, workload: Workload, lanes: int, formulation: str = DOT) -> bool:
        """Whether there are channels to fill a vector, few enough outputs in a position, and something to add up.

        Pairs are of bfloat16, where no row is turned.
        """
        layout = cls(workload, lanes, formulation)
        if layout.pairs and (workload.dtype != "bfloat16" or layout.turned):
            return False
        filled = workload.in_channels >= layout.block_channels and lanes > 1
        return filled and layout.per_position <= lanes and workload.reached

    @property
    def pairs(self) -> bool:
        """Whether each lane has two input channels."""
        return self.formulation != DOT

    @property
    def block_channels(self) -> int:
        """Input channels of one block."""
        return 2 * self.lanes if self.pairs else self.lanes

    @cached_property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        """Depth, height and width."""
        return self.workload.phase_axes

    @cached_property
    def margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows of depth and height before and after those of the input that copies of turned rows have."""
        if not self.turned:
            return (0, 0), (0, 0)
        depth, height = self.axes[0].halo, self.axes[1].halo
        return depth, (height[0], height[1] + self.rows - self.axes[1].quotients)

    @cached_property
    def taps(self) -> tuple[int, ...]:
        """Turns of the loop over taps, for each axis."""
        return tuple(axis.taps for axis in self.axes)

    @cached_property
    def in_blocks(self) -> int:
        """Vectors that the input channels take; where they do not fill the last one it overlaps the one before.

        Channels that both hold have half of their filter in each (see `tvm_conv3dt.compiler.packing`).
        """
        return -(-self.workload.in_channels // self.block_channels)

    @cached_property
    def per_position(self) -> int:
        """Outputs of one position of the width: its phases times the output channels."""
        return self.axes[2].phases * self.workload.out_channels

    @cached_property
    def positions(self) -> int:
        """Positions of the width whose outputs are summed into one vector."""
        # An output that is smaller than the stride has one position.
        whole = self.axes[2].phases == self.axes[2].stride
        return self.lanes // self.per_position if whole else 1

    @cached_property
    def outputs(self) -> int:
        """Outputs in one vector of sums: at most `lanes`."""
        return self.positions * self.per_position

    @property
    def inputs(self) -> int:
        """Positions of the input, of one row of taps, that a vector of sums reads."""
        return self.positions + self.axes[2].taps - 1

    @cached_property
    def row_vectors(self) -> int:
        """Vectors of sums in one row of the output; the last may reach past its end."""
        return -(-self.axes[2].quotients // self.positions)

    @cached_property
    def rows(self) -> int:
        """Positions of the height, rounded up so that tasks of several rows divide it; there is nothing to do in the last."""
        height = self.axes[1].quotients
        return height if height < _ROWS else -(-height // _ROWS) * _ROWS

    @cached_property
    def exact(self) -> bool:
        """Whether no vector of sums reaches past the end of a row of the output."""
        width = self.axes[2]
        return self.row_vectors * self.positions * width.stride == width.output

    @cached_property
    def leaves(self) -> tuple[tuple[bool, bool], tuple[bool, bool], tuple[bool, bool]]:
        """Whether taps lead before and after the input, for each axis."""
        depth, height = ((a.halo[0] > 0, a.halo[1] > 0) for a in self.axes[:2])
        width = self.axes[2]
        beyond = self.row_vectors * self.positions - width.quotients
        first, last = width.reads
        return depth, height, (first < 0, last + beyond >= width.input)

    @cached_property
    def packed_shape(self) -> tuple[int, ...]:
        """Shape of the packed filters: ``[kd, kh, kw, out_channels, in_blocks, lanes]``.

        Of pairs the last is ``lanes, 2``; of halves ``2, lanes``.
        """
        taps = (axis.kernel for axis in self.axes)
        block = {DOT: (self.lanes,), DOT_PAIRS: (self.lanes, 2), DOT_HALVES: (2, self.lanes)}
        return (*taps, self.workload.out_channels, self.in_blocks, *block[self.formulation])

    @property
    def packed_dtype(self) -> str:
        """The dtype of packed filters: pairs are bfloat16, as compiled code takes it."""
        return STORED_BFLOAT16 if self.formulation == DOT_PAIRS else self.workload.sum_dtype

    @property
    def rounds_at_the_end(self) -> bool:
        """Whether casts to bfloat16 are left to `tvm_conv3dt.compiler.rounding`."""
        return self.pairs

    @property
    def itemsize(self) -> int:
        """Bytes of an element of the rows that are read."""
        return self.workload.itemsize if self.pairs else super().itemsize
