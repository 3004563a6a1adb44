"""The default point of the llvm space: an analytic choice, so that an untuned shape is fast at once.

Every point of the space is given an estimate in cycles, and the best is taken. The model knows what
decides on such a nest: how full the register tile keeps the multipliers, tiles at the ends of rows and of
channels, how far from the core the streamed operand lies, how evenly the tasks divide among the cores, and
the copying of padded input. Its constants are of a common out-of-order core; they rank points, no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, prod

from tvm_conv3dt.compiler.spaces.llvm import (
    Point,
    families,
    is_padded,
    lanes,
    tile_h_candidates,
    tile_w_candidates,
)
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import Workload

__all__ = ["default_point", "estimate", "points"]

_FMA_PER_CYCLE = 2
_LOADS_PER_CYCLE = 2
_FMA_LATENCY = 4
_TILE_CYCLES = 16  # start, bias, activation and store of one tile, less what its size adds
_TAP_CYCLES = 4  # one turn of the loops over taps
_TASK_CYCLES = 200
_L2_BYTES_PER_CYCLE = 24
_L3_BYTES_PER_CYCLE = 9
_MEMORY_BYTES_PER_CYCLE = 4


def points(workload: Workload, device: Device) -> Iterator[Point]:
    """Yield every point of the space."""
    for order, vectors in families(workload, device):
        for tile_w in tile_w_candidates(workload, device, vectors):
            for tile_h in (1,) if order == "filters" else tile_h_candidates(workload):
                yield Point(order, vectors, tile_w, tile_h)


def default_point(workload: Workload, device: Device) -> Point:
    """Return the point with the least `estimate`."""
    return min(points(workload, device), key=lambda point: estimate(workload, device, point))


def estimate(workload: Workload, device: Device, point: Point) -> float:
    """Return the cycles that a point is expected to take, in all, on all cores of `device`.

    Parameters
    ----------
    workload, device
        What is computed, and where.
    point : Point
        How.
    """
    depth, height, width = workload.phase_axes
    blocks = ceil(workload.out_channels / lanes(device))
    rows = workload.batch * depth.quotients * height.quotients
    phases = depth.phases * height.phases * width.phases
    # Mean over the phases: every tap belongs to just one of them.
    taps = prod(workload.kernel) / phases
    depth_of_sum = taps * workload.in_channels

    row_cycles = 0.0
    for positions, tiles_w in _tiles(width.quotients, point.tile_w):
        for vectors, tiles_c in _tiles(blocks, point.vectors):
            row_cycles += tiles_w * tiles_c * _tile_cycles(positions, vectors, depth_of_sum, taps)

    itemsize = workload.itemsize
    panel = point.vectors * lanes(device) * depth_of_sum * itemsize
    phase_filters = blocks * lanes(device) * depth_of_sum * itemsize * width.phases
    row_input = width.quotients * workload.in_channels * itemsize * ceil(taps)
    tiles_w, tiles_c = ceil(width.quotients / point.tile_w), ceil(blocks / point.vectors)
    if point.order == "rows":
        # Each tile of positions streams the filters of all channels and of the phases along the width.
        row_cycles += _fetch(device, phase_filters) * tiles_w * phase_filters / width.phases
    else:
        rows_inside = rows if point.order == "filters" else point.tile_h
        row_cycles += _fetch(device, panel) * tiles_w * tiles_c * panel
        row_cycles += _fetch(device, row_input * rows_inside + panel) * tiles_c * row_input
        if point.order == "panels":
            # A task's first row brings each panel nearer.
            row_cycles += _fetch(device, phase_filters) * tiles_c * panel / point.tile_h
    cycles = row_cycles * phases

    if point.order == "filters":
        tasks = phases * tiles_c
        total = cycles * rows / tasks
        padding = 2.0 * prod(workload.input_spatial) * workload.in_channels / lanes(device)
        total *= ceil(tasks / device.cores)
        return total + (padding / device.cores + _TASK_CYCLES if is_padded(workload) else 0)
    blocks_h = ceil(height.quotients / point.tile_h)
    tasks = workload.batch * depth.quotients * blocks_h
    task = cycles * point.tile_h + _TASK_CYCLES
    if is_padded(workload):
        halo_rows = (point.tile_h + height.taps) * (1 + depth.taps)
        task += halo_rows * (width.quotients + 2) * workload.in_channels / lanes(device)
    return float(task * ceil(tasks / device.cores))


def _tiles(extent: int, tile: int) -> Iterator[tuple[int, int]]:
    """Yield the size and number of whole tiles, and of the tail."""
    whole, tail = divmod(extent, tile)
    if whole:
        yield tile, whole
    if tail:
        yield tail, 1


def _tile_cycles(positions: int, vectors: int, depth_of_sum: float, taps: float) -> float:
    """Cycles of one register tile whose operands are in the first cache."""
    step = max(
        positions * vectors / _FMA_PER_CYCLE,
        (positions + vectors) / _LOADS_PER_CYCLE,
        _FMA_LATENCY,
    )
    return step * depth_of_sum + _TAP_CYCLES * taps + _TILE_CYCLES + positions * vectors


def _fetch(device: Device, working_set: float) -> float:
    """Cycles that each byte of a stream costs, by where data of that size stays."""
    if working_set <= device.l1_bytes * 0.75:
        return 0.0
    if working_set <= device.l2_bytes * 0.75:
        return 0.25 / _L2_BYTES_PER_CYCLE
    if working_set <= device.l3_bytes * 0.75:
        return 0.6 / _L3_BYTES_PER_CYCLE
    return 1.0 / _MEMORY_BYTES_PER_CYCLE
