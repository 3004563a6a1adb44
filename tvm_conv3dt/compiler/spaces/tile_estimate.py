"""What a point of the nest for a CPU's matrix unit is expected to take: see `tvm_conv3dt.compiler.spaces.default_point`."""

from __future__ import annotations

from math import ceil, prod

from tvm_conv3dt.compiler.spaces.memory_model import fetch, write
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.spaces.tile_nest import copied
from tvm_conv3dt.compiler.tile_layout import DEPTH, SQUARE, TileLayout
from tvm_conv3dt.device import Device

__all__ = ["tile_estimate"]

_PRODUCT_CYCLES = 16  # of one instruction: a row each
_LOAD_CYCLES = 8  # of a register from the first cache: two rows each
_STEP_CYCLES = 3
_TAP_CYCLES = 8
_TILE_CYCLES = 60  # registers cleared and stored, which waits for the last products
_POSITION_CYCLES = 5  # where it belongs
_VECTOR_CYCLES = 2.5  # of results: loaded, bias, activation, rounded, stored
_TASK_CYCLES = 400
_COPY_BYTES_PER_CYCLE = 16
_SQUARE_BYTES = SQUARE * DEPTH * 2


def tile_estimate(layout: TileLayout, device: Device, point: Point) -> float:
    """Return the cycles that a point is expected to take, in all, on all cores of `device`."""
    workload = layout.workload
    depth = layout.axes[0]
    rows, columns = layout.squares, layout.column_squares
    taps = layout.multiplications / workload.in_channels
    depth_steps = layout.packed_channels // DEPTH
    steps = taps * depth_steps
    phases = prod(layout.phases)
    planes = workload.batch * depth.quotients

    # What lies how far: the filters that follow each other, and the rows that a task reads.
    panel: float = columns * steps * _SQUARE_BYTES
    filters = panel * layout.blocks * phases
    task_rows = float(copied(layout, point.task_h))
    if point.order == "rows":
        far_filters, far_rows = filters, task_rows / point.task_h
    elif point.order == "panels":
        far_filters, far_rows = panel, task_rows
    else:
        far_filters = panel
        far_rows = layout.row_sizes[0] * layout.plane * layout.packed_channels * 2.0
    loads = float((rows + columns) * _LOAD_CYCLES)
    loads += columns * _SQUARE_BYTES * fetch(device, far_filters + far_rows / 4)
    loads += rows * _SQUARE_BYTES * fetch(device, far_rows + panel) / ceil(taps)
    step = max(rows * columns * _PRODUCT_CYCLES, loads) + _STEP_CYCLES
    position = _POSITION_CYCLES + _VECTOR_CYCLES * columns * _stores(layout)
    tile = steps * step + taps * _TAP_CYCLES + _TILE_CYCLES + rows * SQUARE * position

    all_tiles = layout.tiles * layout.blocks * phases
    if point.order == "filters":
        tasks = layout.blocks * phases
        task = planes * layout.tiles * tile + _TASK_CYCLES
        # Each task's filters come from far, once.
        task += panel * fetch(device, filters)
        once = far_rows * workload.batch / _COPY_BYTES_PER_CYCLE / device.cores + _TASK_CYCLES
        return task * ceil(tasks / device.cores) + once
    tasks = planes * ceil(layout.tiles / point.task_h)
    task = all_tiles / layout.tiles * point.task_h * tile + _TASK_CYCLES
    task += task_rows / _COPY_BYTES_PER_CYCLE + filters * fetch(device, filters + task_rows)
    return task * ceil(tasks / device.cores) + write(workload, device, point.stream)


def _stores(layout: TileLayout) -> float:
    """Return how many stores a vector of results takes."""
    return SQUARE if layout.channels % SQUARE and layout.channels < layout.lanes else 1.0
