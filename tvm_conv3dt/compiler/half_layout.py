"""How a workload is laid out where output channels are in the lanes, and products and sums are float16.

A vector has twice the lanes that it has of float32. At most `FLOAT16_TERMS` products are added in float16, which are a *block*: some of
the input channels of one tap, or all channels of some taps. Blocks are added in float32, with as many roundings as there are blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import FLOAT16_TERMS, Workload

__all__ = ["HALVES", "HalfLayout", "adds_halves"]

HALVES = "halves-"
"""What the names of these formulations begin with; the rest is that of a `Layout`: ``"halves-phases"``."""

# Names, in the catalogue of devices, of the CPU features with arithmetic of float16 in vectors.
_FEATURES = frozenset({"avx512_fp16", "asimdhp"})


def adds_halves(device: Device) -> bool:
    """Whether a device has arithmetic of float16."""
    return not _FEATURES.isdisjoint(device.cpu_features)


@dataclass(frozen=True)
class HalfLayout(Layout):
    """A workload whose lanes multiply and add float16; attributes as those of `Layout`."""

    @classmethod
    def fits(cls, workload: Workload) -> bool:
        """Whether there is such a layout of a workload: where float16 arithmetic is permitted, and no row is turned."""
        turned = cls(workload, 1).turns_rows
        return workload.precision == "float16" and workload.reached and not turned

    @property
    def name(self) -> str:
        """The formulation as schedules tell it: ``"halves-phases"``."""
        return HALVES + self.formulation

    @property
    def padded(self) -> bool:
        """Whether the rows of the input are copied: they need zeros around them, or more channels."""
        return any(self.halo) or self.packed_channels > self.workload.in_channels

    @property
    def chunks(self) -> int:
        """Into how many blocks the input channels of one tap are divided."""
        return -(-self.workload.in_channels // FLOAT16_TERMS)

    @property
    def chunk(self) -> int:
        """Input channels of a block, as even as can be; zeros fill up the last."""
        return -(-self.workload.in_channels // self.chunks)

    @cached_property
    def joined(self) -> tuple[bool, bool, bool]:
        """Whether all taps of depth, height and width are in one block: the width's first, while there is room."""
        room, found = FLOAT16_TERMS // self.chunk if self.chunks == 1 else 0, []
        for taps in reversed(self.taps):
            room //= taps
            found.append(room > 0)
        width, height, depth = found
        return depth, height, width

    @cached_property
    def sum_blocks(self) -> int:
        """Blocks that the sum of an output has at most."""
        outer = (t for t, joined in zip(self.taps, self.joined, strict=True) if not joined)
        return prod(outer) * self.chunks

    @property
    def block_loops(self) -> int:
        """Loops over the products of a block."""
        return 1 + sum(self.joined)

    @property
    def sum_loops(self) -> int:
        """Loops of the sum in registers that is stored: over its blocks, or over products where all are one block."""
        return 5 - self.block_loops if self.sum_blocks > 1 else 4

    @property
    def packed_channels(self) -> int:
        """Input channels, with the zeros that fill up the last block."""
        return self.chunks * self.chunk

    @property
    def packed_dtype(self) -> str:
        """The dtype of packed filters."""
        return "float16"

    @property
    def itemsize(self) -> int:
        """Bytes of an element of the rows that are copied, and of packed filters."""
        return 2
