"""The default point of the llvm space: an analytic choice, so that an untuned shape is fast at once.

Every point of the space is given an estimate in cycles, and the best is taken. The model knows what
decides on such a nest: how full the register tile keeps the multipliers, tiles at the ends of rows and of
channels, how far from the core the streamed operand lies, how evenly the tasks divide among the cores, and
the copying of padded input. Its constants are of a common out-of-order core; they rank points, no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, prod

from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.spaces.llvm import (
    Point,
    families,
    formulations,
    layout_of,
    stores_vectors,
    tile_h_candidates,
    tile_w_candidates,
)
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import Workload

__all__ = ["default_point", "default_points", "estimate", "points"]

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
    for formulation in formulations(workload, device):
        layout = layout_of(workload, device, formulation)
        for order, vectors in families(layout):
            for tile_w in tile_w_candidates(layout, device, vectors):
                for tile_h in (1,) if order == "filters" else tile_h_candidates(layout, device):
                    yield Point(formulation, order, vectors, tile_w, tile_h)


def default_point(workload: Workload, device: Device) -> Point:
    """Return the point with the least `estimate`."""
    return default_points(workload, device)[0]


def default_points(workload: Workload, device: Device) -> list[Point]:
    """Return the point with the least `estimate` of each formulation, the least first."""
    best: dict[str, tuple[float, Point]] = {}
    for point in points(workload, device):
        cycles = estimate(workload, device, point)
        if point.formulation not in best or cycles < best[point.formulation][0]:
            best[point.formulation] = cycles, point
    return [point for _, point in sorted(best.values(), key=lambda each: each[0])]


def estimate(workload: Workload, device: Device, point: Point) -> float:
    """Return the cycles that a point is expected to take, in all, on all cores of `device`.

    Parameters
    ----------
    workload, device
        What is computed, and where.
    point : Point
        How.
    """
    layout = layout_of(workload, device, point.formulation)
    depth, height, width = layout.axes
    rows = workload.batch * depth.quotients * height.quotients
    phases, width_phases = prod(layout.phases), layout.phases[2]
    depth_of_sum = layout.multiplications
    taps = depth_of_sum / workload.in_channels

    row_cycles = 0.0
    for positions, tiles_w in _tiles(width.quotients, point.tile_w):
        for vectors, tiles_c in _tiles(layout.blocks, point.vectors):
            row_cycles += tiles_w * tiles_c * _tile_cycles(layout, positions, vectors)

    itemsize = workload.itemsize
    panel = point.vectors * layout.lanes * depth_of_sum * itemsize
    phase_filters = layout.blocks * layout.lanes * depth_of_sum * itemsize * width_phases
    row_input = width.quotients * workload.in_channels * itemsize * ceil(taps)
    tiles_w, tiles_c = ceil(width.quotients / point.tile_w), ceil(layout.blocks / point.vectors)
    if point.order == "rows":
        # Each tile of positions streams the filters of all channels and of the phases along the width.
        row_cycles += _fetch(device, phase_filters) * tiles_w * phase_filters / width_phases
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
        total = cycles * rows / tasks * ceil(tasks / device.cores)
        padding = 2.0 * prod(workload.input_spatial) * workload.in_channels / layout.lanes
        return total + (padding / device.cores + _TASK_CYCLES if layout.padded else 0)
    tasks = workload.batch * depth.quotients * ceil(height.quotients / point.tile_h)
    task = cycles * min(point.tile_h, height.quotients) + _TASK_CYCLES
    if layout.padded:
        halo_rows = (point.tile_h + layout.taps[1]) * (1 + layout.taps[0])
        task += halo_rows * (width.quotients + 2) * workload.in_channels / layout.lanes
    return float(task * ceil(tasks / device.cores))


def _tiles(extent: int, tile: int) -> Iterator[tuple[int, int]]:
    """Yield the size and number of whole tiles, and of the tail."""
    whole, tail = divmod(extent, tile)
    if whole:
        yield tile, whole
    if tail:
        yield tail, 1


def _tile_cycles(layout: Layout, positions: int, vectors: int) -> float:
    """Cycles of one register tile whose operands are in the first cache."""
    taps = layout.multiplications / layout.workload.in_channels
    step = max(
        positions * vectors / _FMA_PER_CYCLE,
        (positions + vectors) / _LOADS_PER_CYCLE,
        _FMA_LATENCY,
    )
    stores = positions * vectors * (1 if stores_vectors(layout) else layout.lanes)
    return step * layout.multiplications + _TAP_CYCLES * taps + _TILE_CYCLES + stores


def _fetch(device: Device, working_set: float) -> float:
    """Cycles that each byte of a stream costs, by where data of that size stays."""
    if working_set <= device.l1_bytes * 0.75:
        return 0.0
    if working_set <= device.l2_bytes * 0.75:
        return 0.25 / _L2_BYTES_PER_CYCLE
    if working_set <= device.l3_bytes * 0.75:
        return 0.6 / _L3_BYTES_PER_CYCLE
    return 1.0 / _MEMORY_BYTES_PER_CYCLE
