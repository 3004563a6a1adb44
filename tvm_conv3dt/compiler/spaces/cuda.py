"""How it is computed on a GPU: tiles of matrix products, and the nest of loops of each kind.

`tvm_conv3dt.compiler.spaces.matrix_nest` is for tensor cores, which take float16;
`tvm_conv3dt.compiler.spaces.simt_nest` is for all other types.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from types import ModuleType

from tvm import s_tir

from tvm_conv3dt.compiler.fragments import SQUARE
from tvm_conv3dt.compiler.gemm_layout import GemmLayout, Tile
from tvm_conv3dt.compiler.layout import PHASES, foldings
from tvm_conv3dt.compiler.spaces import matrix_nest, simt_nest
from tvm_conv3dt.compiler.spaces.point import Choose, GpuFamily, GpuPoint
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import DTYPES, Workload

__all__ = ["apply", "families", "formulations", "layout_of", "nest_of", "points", "shared_bytes"]

_POSITIONS = (1, 4, 16, 32, 64, 128)
_CHANNELS = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128)
_DEPTHS = {"threads": (8, 16), "warps": (16, 32)}
_PARTS = (1, 2, 4, 8, 16)
_SPARSE = 32  # channels that a thread, or a few, can have for their own
_BANKS = 32  # padding is less than a row of them
_WIDE = 128  # channels beyond which folding more phases into them gains nothing


@lru_cache(maxsize=4096)
def layout_of(workload: Workload, device: Device, formulation: str) -> GemmLayout:
    """Return the layout of `workload` that a formulation names."""
    return GemmLayout.parse(workload, formulation)


def nest_of(layout: GemmLayout) -> ModuleType:
    """Return the module that schedules a layout."""
    return matrix_nest if layout.matrix_units else simt_nest


def formulations(workload: Workload, device: Device) -> list[str]:
    """Return the formulations that fit: tiles, and phases folded into the channels where these are few."""
    kinds = [False]
    if workload.dtype == "float16":
        # Few channels leave most of a tensor core's square empty.
        kinds = [True, False] if workload.out_channels < SQUARE else [True]
    names = []
    for matrix_units in kinds:
        least = SQUARE if matrix_units else 1
        for folding in (PHASES, *foldings(workload)):
            layout = GemmLayout.of(workload, Tile(1, 1, 1), folding, matrix_units)
            if folding != PHASES and not _worth_folding(layout):
                continue
            for positions in _fitting(_POSITIONS, layout.volume, least):
                for channels in _fitting(_CHANNELS, layout.channels, least):
                    for tile in _tiles(layout, positions, channels):
                        each = GemmLayout.of(workload, tile, folding, matrix_units)
                        if shared_bytes(each) <= _limit(device):
                            names.append(each.name)
    return names


def _worth_folding(layout: GemmLayout) -> bool:
    """Whether to fold phases: where not all of them have all taps, only to skip taps by each channel alone."""
    if layout.dense:
        return layout.workload.out_channels < _WIDE
    return not layout.matrix_units and layout.channels <= _SPARSE


def families(layout: GemmLayout, device: Device) -> Iterator[GpuFamily]:
    """Yield the structural choices: one design space each."""
    yield from nest_of(layout).families(layout, device)


def points(workload: Workload, device: Device) -> Iterator[GpuPoint]:
    """Yield every point of the space."""
    for formulation in formulations(workload, device):
        layout = layout_of(workload, device, formulation)
        for family in families(layout, device):
            yield from nest_of(layout).points(layout, device, family)


def apply(
    sch: s_tir.Schedule, layout: GemmLayout, device: Device, family: GpuFamily, choose: Choose
) -> None:
    """Schedule an operator in place.

    Parameters
    ----------
    sch : tvm.s_tir.Schedule
        Holds the function of `tvm_conv3dt.compiler.definition.define`.
    layout, device
        What it computes, and where.
    family : GpuFamily
        The structural choices.
    choose : callable
        ``choose(name, candidates)`` gives the index of a decision's candidate, or None to sample it:
        a point's own method, or a search's.
    """
    nest_of(layout).apply(sch, layout, device, family, choose)


def shared_bytes(layout: GemmLayout) -> int:
    """Return the shared memory that a block of threads takes, or a little more."""
    positions, channels, depth = layout.positions, layout.lanes, layout.depth
    operands = (positions + _BANKS) * depth + depth * (channels + _BANKS)
    sums = positions * (channels + _BANKS) * 4 if layout.matrix_units else 0
    if layout.matrix_units:
        operands += positions * _BANKS  # rows are those of positions there
    return operands * DTYPES[layout.packed_dtype] + sums


def _tiles(layout: GemmLayout, positions: int, channels: int) -> Iterator[Tile]:
    order = nest_of(layout).ORDER
    for depth in _DEPTHS[order]:
        steps = -(-layout.workload.in_channels // depth)
        for parts in _PARTS:
            # No part may be without input channels.
            if parts <= steps and -(-steps // parts) * (parts - 1) < steps:
                yield Tile(positions, channels, depth, parts)


def _fitting(sizes: tuple[int, ...], extent: int, least: int) -> list[int]:
    """Return the sizes that are of use for an extent: up to the first that is as large, and more that are not twice as large."""
    sizes = tuple(size for size in sizes if size >= least)
    before = (0, *sizes)
    return [
        size
        for size, smaller in zip(sizes, before, strict=False)
        if smaller < extent or size < 2 * extent
    ]


def _limit(device: Device) -> int:
    assert device.gpu is not None
    return device.gpu.shared_bytes_per_block
