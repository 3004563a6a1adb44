"""How a float32 workload is laid out for a CPU's matrix unit: as its tiles, of numbers that are split into pieces.

See `tvm_conv3dt.compiler.pieces`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from tvm_conv3dt.compiler.pieces import PIECES
from tvm_conv3dt.compiler.tile_layout import TileLayout
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import Workload

__all__ = ["SPLIT", "SplitLayout", "pays"]

SPLIT = "amx-split-"
"""What names of these formulations begin with."""

_MOST_CORES = 4
_TASKS = range(4, 9)  # tiles of a plane


def pays(formulation: str, device: Device) -> bool:
    """Whether a formulation may be the fastest with so many threads as a device has cores.

    Those of split numbers live on what each core has for itself: pieces in its caches, and its unit. Where threads are many
    they are hyperthreads that share both, which virtual machines do not tell, and copies within bounds are small
    (docs/matrix-units.md has figures).
    """
    return not formulation.startswith(SPLIT) or device.cores <= _MOST_CORES


@dataclass(frozen=True)
class SplitLayout(TileLayout):
    """A float32 workload with the squares of its matrix products; attributes as those of `TileLayout`."""

    prefix: ClassVar[str] = SPLIT

    @classmethod
    def fits(cls, workload: Workload) -> bool:
        """Whether there is such a layout of a workload."""
        return (
            workload.precision is None and workload.product_dtype == "float32" and workload.reached
        )

    @cached_property
    def pitch(self) -> int:
        """Positions from a row to the next: zeros after a row are those before the next one."""
        width = self.axes[2]
        return max(width.input + max(self.halo), width.quotients, self.least_pitch)

    @cached_property
    def reach(self) -> int:
        """How many positions after its own first one a tap may read."""
        _, height, width = self.axes
        rows = self.row_sizes[1] - height.quotients
        return rows * self.pitch + width.input + sum(self.halo) - width.quotients

    @cached_property
    def tiles(self) -> int:
        """Tiles of positions of a plane; so many, where there are many, that tasks can take some each."""
        if self.by_rows:
            return super().tiles
        tiles = -(-self.flat // self.positions)
        while tiles > _TASKS[-1] and all(tiles % each for each in _TASKS):
            tiles += 1
        return tiles

    @property
    def itemsize(self) -> int:
        """Bytes of an element of the rows that are copied: of all its pieces."""
        return 2 * PIECES

    @cached_property
    def packed_shape(self) -> tuple[int, ...]:
        """Shape of the packed filters: ``[blocks, td, th, tw, in_channels / 32, 3, squares, 16 pairs, 16 channels, 2]``."""
        *outer, squares, pairs, channels, two = super().packed_shape
        return (*outer, PIECES, squares, pairs, channels, two)
