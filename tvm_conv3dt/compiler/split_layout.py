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
        return workload.product_dtype == "float32" and workload.reached

    @property
    def itemsize(self) -> int:
        """Bytes of an element of the rows that are copied: of all its pieces."""
        return 2 * PIECES

    @cached_property
    def packed_shape(self) -> tuple[int, ...]:
        """Shape of the packed filters: ``[blocks, td, th, tw, in_channels / 32, 3, squares, 16 pairs, 16 channels, 2]``."""
        *outer, squares, pairs, channels, two = super().packed_shape
        return (*outer, PIECES, squares, pairs, channels, two)
