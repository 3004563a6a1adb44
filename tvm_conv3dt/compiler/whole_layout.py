"""How a workload is laid out where output channels are in the lanes, and tiles take whole rows of few positions.

Zeros around such short rows are a good part of what is multiplied. Where all positions of a row are in one register tile, each
skips the taps that it does not have, as the rows of depth and height do, and no row is copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.spec import Workload

__all__ = ["WHOLE", "WholeLayout"]

WHOLE = "whole-"
"""What the names of these formulations begin with; the rest is that of a `Layout`: ``"whole-phases"``."""

_MOST_POSITIONS = 8
"""What a tile can have in a row, however few registers there are: 16 of them hold 14 vectors of sums."""


@dataclass(frozen=True)
class WholeLayout(Layout):
    """A workload whose rows are whole in a tile; attributes as those of `Layout`."""

    @classmethod
    def fits(cls, workload: Workload) -> bool:
        """Whether there is such a layout of a workload: rows are short, some taps lead outside of them, and none is copied anyway."""
        plain = Layout(workload, 1)
        width = plain.axes[2]
        few = width.quotients <= _MOST_POSITIONS and workload.reached
        widened = workload.dtype != workload.sum_dtype
        return few and any(plain.halo) and not plain.turns_rows and not widened

    @property
    def name(self) -> str:
        """The formulation as schedules tell it: ``"whole-phases"``."""
        return WHOLE + self.formulation

    @property
    def unswitched(self) -> bool:
        """Whether loops over products have many conditions: of each position, row and plane whether it has the tap."""
        return True

    @property
    def halo(self) -> tuple[int, int]:
        """None: see `leaves`."""
        return 0, 0

    @cached_property
    def present(self) -> float:
        """The share of the taps along the width, all phases and positions, that lie inside of the input."""
        width = self.axes[2]
        turns = [
            q + int(width.first_input(r)) - j * width.input_step
            for r in range(width.phases)
            for q in range(width.quotients)
            for j in range(width.phase_taps(r))
        ]
        return sum(0 <= position < width.input for position in turns) / len(turns)

    @property
    def leaves(self) -> tuple[tuple[bool, bool], ...]:
        """Whether taps lead before and after the input, for depth, height and width."""
        before, after = self.axes[2].halo
        return (*super().leaves[:2], (before > 0, after > 0))
