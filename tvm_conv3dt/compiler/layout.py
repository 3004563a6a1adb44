"""How a workload is laid out for computing: phases, channels, and the packed filters.

Channels are what a vector holds. A workload with few of them would leave most of each vector empty; there the phases
of some axes are *folded* into the channels: all phases of a position are computed together, as
``phases * out_channels`` channels of a convolution whose taps are input positions. A tap that a phase
does not have is a zero in the packed filters, which costs work and fills the vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from tvm_conv3dt.compiler.rows import Rows
from tvm_conv3dt.phases import Axis
from tvm_conv3dt.spec import Workload

__all__ = ["PHASES", "Layout", "foldings"]

PHASES = "phases"
"""The formulation that folds nothing."""

_AXES = "dhw"


@dataclass(frozen=True)
class Layout(Rows):
    """A workload with the number of lanes of a vector and the axes that are folded.

    Attributes
    ----------
    workload : Workload
    lanes : int
        Channels of one block: the elements of the target's vector.
    formulation : str
        ``"phases"``, or ``"fold-"`` and the axes whose phases are folded: ``"fold-dhw"``.
    """

    workload: Workload
    lanes: int
    formulation: str = PHASES

    @property
    def name(self) -> str:
        """The formulation as schedules tell it."""
        return self.formulation

    @cached_property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        """Depth, height and width."""
        return self.workload.phase_axes

    @cached_property
    def folded(self) -> tuple[bool, bool, bool]:
        """Which axes are folded."""
        names = "" if self.formulation == PHASES else self.formulation.removeprefix("fold-")
        depth, height, width = (name in names for name in _AXES)
        return depth, height, width

    @cached_property
    def phases(self) -> tuple[int, ...]:
        """The phases of each axis that are left as loops."""
        return tuple(
            1 if folded else a.phases for a, folded in zip(self.axes, self.folded, strict=True)
        )

    @cached_property
    def channels(self) -> int:
        """Output channels times folded phases."""
        folded = [a.phases for a, folded in zip(self.axes, self.folded, strict=True) if folded]
        return prod(folded) * self.workload.out_channels

    @cached_property
    def blocks(self) -> int:
        """Vectors that the channels take."""
        return -(-self.channels // self.lanes)

    @property
    def together(self) -> int:
        """Results of a position that stand together in the output."""
        folded = self.axes[2].phases if self.folded[2] else 1
        return folded * self.workload.out_channels

    @property
    def rows(self) -> int:
        """Positions of the height."""
        return self.axes[1].quotients

    @property
    def columns(self) -> int:
        """Positions of the width, as tiles count them."""
        return self.axes[2].quotients

    @cached_property
    def taps(self) -> tuple[int, ...]:
        """Turns of the loop over taps, for each axis."""
        return tuple(
            a.folded_taps if folded else a.taps
            for a, folded in zip(self.axes, self.folded, strict=True)
        )

    @property
    def sum_loops(self) -> int:
        """Loops of the sum that is stored: over taps, and over input channels."""
        return 4

    @cached_property
    def halo(self) -> tuple[int, int]:
        """Zeros before and after each row of the input that the taps read.

        Rows outside the input are not read at all: the taps that would are skipped, see `leaves`.
        """
        width = self.axes[2]
        return width.folded_halo if self.folded[2] else width.halo

    @cached_property
    def leaves(self) -> tuple[tuple[bool, bool], ...]:
        """Whether taps lead before and after what is read of the input, for depth, height and width."""
        depth, height = self._row_halo
        return (depth[0] > 0, depth[1] > 0), (height[0] > 0, height[1] > 0), (False, False)

    @cached_property
    def margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows of depth and height before and after those of the input that copies of turned rows have."""
        if not self.turned:
            return (0, 0), (0, 0)
        depth, height = self._row_halo
        return depth, height

    @cached_property
    def _row_halo(self) -> tuple[tuple[int, int], ...]:
        return tuple(
            a.folded_halo if folded else a.halo
            for a, folded in zip(self.axes[:2], self.folded[:2], strict=True)
        )

    @cached_property
    def padded(self) -> bool:
        """Whether the rows of the input are copied: they need zeros around them, or are to be widened only once."""
        widened = self.workload.dtype != self.workload.sum_dtype
        return (any(self.halo) or (widened and not self.turned)) and self.workload.reached

    @cached_property
    def dense(self) -> bool:
        """Whether every phase that is folded has every tap, so that no filter that the kernel reads is zero.

        A zero filter would make NaN of an infinite input, in outputs that the input does not reach.
        """
        return all(
            a.phase_taps(r) == a.folded_taps
            for a, folded in zip(self.axes, self.folded, strict=True)
            for r in range(a.phases * folded)
        )

    @cached_property
    def packed_shape(self) -> tuple[int, ...]:
        """Shape of the packed filters: ``[blocks, td, th, tw, in_channels, lanes]``."""
        taps = (
            a.folded_taps if folded else a.kernel
            for a, folded in zip(self.axes, self.folded, strict=True)
        )
        return (self.blocks, *taps, self.packed_channels, self.lanes)

    @property
    def stored_lanes(self) -> int:
        """Lanes of a vector of results."""
        return self.lanes

    @property
    def sum_channels(self) -> int:
        """Turns of the sum over input channels."""
        return self.workload.in_channels

    @property
    def packed_channels(self) -> int:
        """Input channels of the packed filters, zeros counted in."""
        return self.workload.in_channels

    @property
    def copied_channels(self) -> int:
        """Input channels of the rows that are copied: as many as filters have."""
        return self.packed_channels

    @cached_property
    def mean_taps(self) -> float:
        """Taps of one position, those of zero filters counted in; mean over phases."""
        per_axis = (
            float(a.folded_taps) if folded else a.kernel / a.phases
            for a, folded in zip(self.axes, self.folded, strict=True)
        )
        return prod(per_axis)

    @property
    def multiplications(self) -> float:
        """Multiplications of one lane, for one position; mean over phases."""
        return self.mean_taps * self.workload.in_channels

    def channel(self, c: Any) -> tuple[Any, Any, Any, Any]:
        """Return the phases of depth, height and width (0 where not folded) and the output channel of `c`.

        `c` may be an int or an integer expression of a compiler.
        """
        if not any(self.folded):
            return 0, 0, 0, c
        rest, out_channel = c // self.workload.out_channels, c % self.workload.out_channels
        phases: list[Any] = [0, 0, 0]
        for index in reversed(range(3)):
            if self.folded[index]:
                count = self.axes[index].phases
                rest, phases[index] = rest // count, rest % count
        return phases[0], phases[1], phases[2], out_channel


def foldings(workload: Workload) -> list[str]:
    """Return the formulations that fold phases."""
    strided = [n for n, axis in zip(_AXES, workload.phase_axes, strict=True) if axis.phases > 1]
    return [f"fold-{''.join(strided[start:])}" for start in range(len(strided))]
