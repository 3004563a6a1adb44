"""How a workload is laid out for a GPU: tiles of positions and channels, and the packed filters.

Each phase is a matrix product: its positions, of all rows together, times its channels, summed over taps and input
channels. A block of threads makes one tile of it, from tiles of input and filters in shared memory. Positions and input
channels that do not fill a tile are zeros there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from math import prod

from tvm_conv3dt.compiler.layout import PHASES, Layout
from tvm_conv3dt.spec import Workload

__all__ = ["GemmLayout", "Tile"]

_PATTERN = re.compile(r"(gemm|wmma)-(\d+)x(\d+)x(\d+)-(\d+)-(phases|fold-[dhw]+)")


@dataclass(frozen=True)
class Tile:
    """What a block of threads makes, and of what.

    Attributes
    ----------
    positions, channels : int
        Sizes of the tile of results.
    depth : int
        Input channels that are in shared memory at a time.
    parts : int
        Shares of the input channels that are summed by different blocks, where there are few tiles.
    """

    positions: int
    channels: int
    depth: int
    parts: int = 1


@dataclass(frozen=True)
class GemmLayout(Layout):
    """A workload with the tiles of its matrix products.

    Attributes
    ----------
    workload, lanes, formulation
        As those of `Layout`; `lanes` are the channels of a tile.
    positions, depth, parts : int
        As those of `Tile`.
    matrix_units : bool
        Whether products are those of tensor cores, which take float16.
    """

    positions: int = 64
    depth: int = 16
    parts: int = 1
    matrix_units: bool = False

    @classmethod
    def of(
        cls, workload: Workload, tile: Tile, folding: str = PHASES, matrix_units: bool = False
    ) -> GemmLayout:
        """Make the layout of a tile; `folding` says which axes are folded into the channels."""
        sizes = tile.positions, tile.depth, tile.parts
        return cls(workload, tile.channels, folding, *sizes, matrix_units)

    @classmethod
    def parse(cls, workload: Workload, name: str) -> GemmLayout:
        """Make the layout of a `name`; another text raises `ValueError`."""
        match = _PATTERN.fullmatch(name)
        if match is None:
            raise ValueError(f"formulation {name} is none of GPUs")
        kind, *sizes, folding = match.groups()
        return cls.of(workload, Tile(*map(int, sizes)), folding, kind == "wmma")

    @cached_property
    def name(self) -> str:
        """The formulation as schedules tell it: ``"gemm-128x64x16-1-phases"``, ``"wmma-…"`` on tensor cores."""
        kind = "wmma" if self.matrix_units else "gemm"
        sizes = f"{self.positions}x{self.lanes}x{self.depth}-{self.parts}"
        return f"{kind}-{sizes}-{self.formulation}"

    @property
    def math_library(self) -> bool:
        """Whether functions are those of CUDA's library: always."""
        return True

    @property
    def turned(self) -> bool:
        """Whether rows are copied: never, each element is read where it lies."""
        return False

    @property
    def turned_back(self) -> bool:
        """As `turned`, of the output."""
        return False

    @cached_property
    def packed_dtype(self) -> str:
        """The dtype of packed filters, and of tiles in shared memory."""
        return "float16" if self.matrix_units else self.workload.sum_dtype

    @cached_property
    def quotients(self) -> tuple[int, int, int]:
        """Positions of one phase along depth, height and width."""
        depth, height, width = (axis.quotients for axis in self.axes)
        return depth, height, width

    @cached_property
    def volume(self) -> int:
        """Positions of one phase, of all volumes of the batch."""
        return self.workload.batch * prod(self.quotients)

    @cached_property
    def tiles(self) -> int:
        """Tiles of positions."""
        return -(-self.volume // self.positions)

    @property
    def padded_volume(self) -> int:
        """Positions, those counted in that fill up the last tile."""
        return self.tiles * self.positions

    @cached_property
    def part_channels(self) -> int:
        """Input channels that one part sums, zeros at the end counted in."""
        steps = -(-self.workload.in_channels // self.depth)
        return -(-steps // self.parts) * self.depth

    @property
    def packed_channels(self) -> int:
        """Input channels of the packed filters, zeros counted in."""
        return self.parts * self.part_channels

    @cached_property
    def blocks_of_threads(self) -> int:
        """Blocks of threads that the products take."""
        return self.parts * self.tiles * prod(self.phases) * self.blocks
