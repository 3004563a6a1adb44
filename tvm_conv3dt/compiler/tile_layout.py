"""How a workload is laid out for a CPU's matrix unit: squares of positions and channels, and the packed filters.

Such a unit adds products of 16 positions by pairs of input channels and 16 output channels, all in one instruction
(`tvm_conv3dt.compiler.amx`). A phase is a matrix product, as on GPUs. Its positions are those of a plane, counted row after row
with the zeros around each row counted in: so those that follow each other are equally far apart in memory, wherever a row ends, and
narrow planes fill squares too. What is computed for the zeros is not stored.

Where channels come first in the input or the output, whose rows are turned on the way, a tile is of one row instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from tvm_conv3dt.compiler.layout import PHASES
from tvm_conv3dt.compiler.unit_layout import DEPTH, SQUARE, UnitLayout
from tvm_conv3dt.spec import Workload

__all__ = ["TileLayout"]

_ZEROS = 16  # times as many positions as zeros that are added to a row, at least

_PATTERN = re.compile(r"(\d)x(\d)-(phases|fold-[dhw]+)")


@dataclass(frozen=True)
class TileLayout(UnitLayout):
    """A workload with the squares of its matrix products.

    Attributes
    ----------
    workload, lanes, formulation
        As those of `Layout`; `lanes` are the channels of a tile, some squares of them.
    squares : int
        Squares of positions of a tile.
    """

    prefix: ClassVar[str] = "amx-"

    squares: int = 1

    @classmethod
    def of(cls, workload: Workload, squares: tuple[int, int], folding: str = PHASES) -> TileLayout:
        """Make the layout of a tile of so many squares of positions and of channels."""
        positions, channels = squares
        return cls(workload, channels * SQUARE, folding, positions)

    @classmethod
    def parse(cls, workload: Workload, name: str) -> TileLayout:
        """Make the layout of a `name`; another text raises `ValueError`."""
        match = _PATTERN.fullmatch(name.removeprefix(cls.prefix))
        if match is None or not name.startswith(cls.prefix):
            raise ValueError(f"formulation {name} is none of matrix units")
        positions, channels, folding = match.groups()
        return cls.of(workload, (int(positions), int(channels)), folding)

    @cached_property
    def name(self) -> str:
        """The formulation as schedules tell it: ``"amx-2x2-phases"``."""
        return f"{self.prefix}{self.squares}x{self.column_squares}-{self.formulation}"

    @property
    def column_squares(self) -> int:
        """Squares of channels of a tile."""
        return self.lanes // SQUARE

    @property
    def positions(self) -> int:
        """Positions of a tile."""
        return self.squares * SQUARE

    @cached_property
    def by_rows(self) -> bool:
        """Whether a tile is of one row of positions, so that tasks make whole rows."""
        return self.turns_rows

    @cached_property
    def row_tiles(self) -> int:
        """Tiles of one row of positions; the last may reach past its end."""
        return -(-self.axes[2].quotients // self.positions)

    @cached_property
    def margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows of zeros of depth and height before and after those of the input."""
        depth, height = self._row_halo
        return depth, height

    @cached_property
    def pitch(self) -> int:
        """Positions from a row to the next, zeros counted in.

        Whole squares where that adds few zeros, and so few channels are stored for each position that finding it takes
        longer: a square lies in one row then.
        """
        before, after = self.halo
        needed = max(before + self.axes[2].input + after, self.least_pitch)
        whole = -(-needed // SQUARE) * SQUARE
        few = (whole - needed) * _ZEROS <= needed and self.channels <= SQUARE
        return whole if few else needed

    @property
    def least_pitch(self) -> int:
        """The least distance of rows: of one position each two, as TVM finds no bounds of taps of rows and columns that count alike."""
        return 2 if self.axes[2].kernel > 1 else 1

    @cached_property
    def flat(self) -> int:
        """Positions of a phase in a plane, with those between the end of a row and the next row."""
        _, height, width = self.axes
        return (height.quotients - 1) * self.pitch + width.quotients

    @cached_property
    def tiles(self) -> int:
        """Tiles of positions of a plane; a multiple of 4 where there are many, so that tasks can share them."""
        if self.by_rows:
            return self.axes[1].quotients * self.row_tiles
        tiles = -(-self.flat // self.positions)
        return -(-tiles // 4) * 4 if tiles > 8 else tiles

    @cached_property
    def plane(self) -> int:
        """Positions of a plane of the input, zeros counted in, those too that fill up the last tile."""
        if self.by_rows:
            last = (self.axes[1].quotients - 1) * self.pitch
            return last + self.row_tiles * self.positions + self.reach
        return self.tiles * self.positions + self.reach

    @cached_property
    def reach(self) -> int:
        """How many positions after its own first one a tap may read."""
        return self.row_sizes[1] * self.pitch - self.flat

    @cached_property
    def packed_shape(self) -> tuple[int, ...]:
        """Shape of the packed filters: ``[blocks, td, th, tw, in_channels / 32, squares, 16 pairs, 16 channels, 2]``."""
        blocks, *taps, _, _ = super().packed_shape
        squares = (self.column_squares, DEPTH // 2, SQUARE, 2)
        return (blocks, *taps, self.packed_channels // DEPTH, *squares)
