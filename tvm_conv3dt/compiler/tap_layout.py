"""How a workload of few output channels is laid out for a CPU's matrix unit: products with all taps, then sums of them.

Squares of 16 output channels would stay nearly empty. Here the rows of a product are the filters of all taps, and its columns are
positions of the input::

    products[kd, kh, kw, c, position] = sum over input channels of filter * input

An output is a sum of those, as many as it has taps. The columns are neighbours in a row, so that such sums are of whole
vectors. Where there are too many taps for that, those of depth are summed with the channels, by phases of depth. The unit takes its
columns by pairs of input channels: the input is turned for it, a square of 16 positions and 32 channels at a time.

A task has some planes and rows of the output. What it reads beyond those of another task is turned and multiplied
by both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from tvm_conv3dt.compiler.unit_layout import DEPTH, SQUARE, UnitLayout
from tvm_conv3dt.spec import Workload

__all__ = ["AXES", "TAPS", "TapLayout"]

AXES = ("dhw", "hw")
"""The axes whose taps have products of their own."""

TAPS = "amx-taps-"
"""What the names of these formulations begin with."""

_PATTERN = re.compile(rf"{TAPS}(d?hw)-(\d+)x(\d+)")
_MOST_SQUARES = 6  # of filters in a tile: with two operands they fill the registers
_COLUMN_SQUARES = {1: 4, 2: 2}  # of positions in a tile, by those of filters; one beside more
_MOST_OUTPUTS = 16  # of a position of the width: a vector of sums each
_MOST_FILTERS = {"dhw": 192, "hw": 512}


@dataclass(frozen=True)
class TapLayout(UnitLayout):
    """A workload with the planes and rows of its tasks.

    Attributes
    ----------
    workload, lanes, formulation
        As those of `Layout`; `lanes` are the positions of a vector of sums, and no phases are folded.
    apart : str
        The axes whose taps have products of their own: one of `AXES`.
    planes, task_rows : int
        Positions of depth and height that a task has.
    """

    apart: str = "hw"
    planes: int = 1
    task_rows: int = 1

    @classmethod
    def of(cls, workload: Workload, apart: str, planes: int = 1, rows: int = 1) -> TapLayout:
        """Make the layout of tasks of so many planes and rows."""
        return cls(workload, SQUARE, apart=apart, planes=planes, task_rows=rows)

    @classmethod
    def parse(cls, workload: Workload, name: str) -> TapLayout:
        """Make the layout of a `name`; another text raises `ValueError`."""
        match = _PATTERN.fullmatch(name)
        if match is None:
            raise ValueError(f"formulation {name} is none of tasks of planes and rows")
        apart, *task = match.groups()
        return cls.of(workload, apart, *map(int, task))

    @classmethod
    def choices(cls, workload: Workload) -> list[str]:
        """Return the axes whose taps may have products of their own: few taps, and few outputs of a position of the width."""
        if not cls.fits(workload):
            return []
        layouts = [cls.of(workload, apart) for apart in AXES]
        return [
            each.apart
            for each in layouts
            if not each.turns_rows
            and each.outputs <= _MOST_OUTPUTS
            and each.filters <= _MOST_FILTERS[each.apart]
        ]

    @cached_property
    def name(self) -> str:
        """The formulation as schedules tell it: ``"amx-taps-dhw-4x8"``."""
        return f"{TAPS}{self.apart}-{self.planes}x{self.task_rows}"

    @property
    def deep(self) -> bool:
        """Whether the taps of depth have products of their own, too."""
        return self.apart == "dhw"

    @cached_property
    def outputs(self) -> int:
        """Outputs of a position of the width: its phases times the output channels."""
        return self.axes[2].phases * self.workload.out_channels

    @property
    def together(self) -> int:
        """Results of a vector of positions, which stand together in the output."""
        return SQUARE * self.outputs

    @cached_property
    def filters(self) -> int:
        """Filters that have products of their own: of so many taps, all output channels."""
        depth, height, width = (axis.kernel for axis in self.axes)
        return (depth if self.deep else 1) * height * width * self.workload.out_channels

    @cached_property
    def filter_blocks(self) -> int:
        """Tiles that the filters take."""
        return -(-self.filters // (SQUARE * _MOST_SQUARES))

    @cached_property
    def squares(self) -> int:
        """Squares of filters of a tile."""
        return -(-self.filters // (SQUARE * self.filter_blocks))

    @property
    def column_squares(self) -> int:
        """Squares of positions of a tile."""
        return _COLUMN_SQUARES.get(self.squares, 1)

    @cached_property
    def tasks(self) -> tuple[int, int]:
        """Shares of depth and height, one for each task; the last may reach past the end."""
        depth, height, _ = self.axes
        return -(-depth.quotients // self.planes), -(-height.quotients // self.task_rows)

    @property
    def rows(self) -> int:
        """Positions of the height, those counted in that lie past its end."""
        return self.tasks[1] * self.task_rows

    @cached_property
    def spans(self) -> tuple[int, int, int]:
        """Positions of the input that the taps of one position lie apart, for each axis."""
        depth, height, width = (
            last - first for first, last in (axis.offsets for axis in self.axes)
        )
        return depth, height, width

    @cached_property
    def starts(self) -> tuple[int, int, int]:
        """The first position of the input that position 0 reads, for each axis; it may lie before the input."""
        depth, height, width = (axis.offsets[0] for axis in self.axes)
        return depth, height, width

    @cached_property
    def row_vectors(self) -> int:
        """Vectors of sums of a row; the last may reach past its end."""
        return -(-self.axes[2].quotients // SQUARE)

    @cached_property
    def row_squares(self) -> int:
        """Squares of positions of a row of the input, from its first position to the last that is read."""
        return -(-(self.axes[2].quotients + self.spans[2]) // SQUARE)

    @property
    def pitch(self) -> int:
        """Positions from a row to the next."""
        return self.row_squares * SQUARE

    @cached_property
    def tiles(self) -> int:
        """Tiles of positions of the rows of a task; the last has those too that the last vector's idle lanes read."""
        squares = (self.task_rows + self.spans[1]) * self.row_squares
        beyond = self.row_vectors * SQUARE + self.spans[2] > self.pitch
        return -(-(squares + beyond) // self.column_squares)

    @cached_property
    def packed_shape(self) -> tuple[int, ...]:
        """Shape of the packed filters: ``[blocks, kd or 1, in_channels / 32, filters, 32]``."""
        depth = 1 if self.deep else self.axes[0].kernel
        filters = self.squares * SQUARE
        return self.filter_blocks, depth, self.packed_channels // DEPTH, filters, DEPTH
