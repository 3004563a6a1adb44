"""What a point of the nest for a CPU's matrix unit is expected to take: see `tvm_conv3dt.compiler.spaces.default_point`."""

from __future__ import annotations

from math import ceil, gcd, prod

from tvm_conv3dt.compiler.spaces.memory_model import NEAR, TURN_CYCLES, fetch, write
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.spaces.tile_nest import copied
from tvm_conv3dt.compiler.spaces.workspace import inputs
from tvm_conv3dt.compiler.tile_layout import TileLayout
from tvm_conv3dt.compiler.unit_layout import DEPTH, SQUARE
from tvm_conv3dt.device import Device

__all__ = ["tile_estimate"]

_PRODUCT_CYCLES = 16  # of one instruction: a row each
_LOAD_CYCLES = 8  # of a register from the first cache: two rows each
_STEP_CYCLES = 3
_TAP_CYCLES = 8
_TILE_CYCLES = 60  # registers cleared and stored, which waits for the last products
_POSITION_CYCLES = 5  # where it belongs
_VECTOR_CYCLES = 2.5  # of results: loaded, bias, activation, rounded, stored
_VECTOR = 4  # results that are worth one
_SCALAR = 8.0  # times what a vector takes: rounded by integers
_TASK_CYCLES = 400
_L2_BYTES_PER_CYCLE = 32
_COPY_BYTES_PER_CYCLE = 8  # of a position's channels
_COPY_CYCLES = 7  # where a position lies
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
    task_rows = float(copied(layout, point.task_h, point.task_d))
    # What a task takes of a plane: tiles, or rows of tiles.
    share = point.task_h * (layout.row_tiles if layout.by_rows else 1)
    if point.order == "rows":
        far_filters, far_rows = filters, task_rows / share / point.task_d
    elif point.order == "panels":
        far_filters, far_rows = panel, task_rows
    else:
        far_filters = panel
        far_rows = layout.row_sizes[0] * layout.plane * layout.packed_channels * 2.0
    loads = float((rows + columns) * _LOAD_CYCLES)
    loads += columns * _SQUARE_BYTES * _stream(device, far_filters + far_rows / 4)
    # Taps along the width read nearly the same.
    along = layout.axes[2].kernel / layout.axes[2].phases
    loads += rows * _SQUARE_BYTES * _stream(device, far_rows + panel) / max(1.0, along)
    step = max(rows * columns * _PRODUCT_CYCLES, loads) + _STEP_CYCLES
    position = _POSITION_CYCLES + _VECTOR_CYCLES * columns * _stores(layout)
    tile = steps * step + taps * _TAP_CYCLES + _TILE_CYCLES + rows * SQUARE * position

    all_tiles = layout.tiles * layout.blocks * phases
    if point.order == "filters":
        tasks = layout.blocks * phases
        task = planes * layout.tiles * tile + _TASK_CYCLES
        # Each task's filters come from far, once.
        task += panel * fetch(device, filters)
        once = _copying(layout, device, far_rows * workload.batch) / device.cores + _TASK_CYCLES
        return task * ceil(tasks / device.cores) + once
    tasks = planes // point.task_d * ceil(layout.tiles / share)
    task = all_tiles / layout.tiles * share * point.task_d * tile + _TASK_CYCLES
    task += _turning(layout, point)
    task += _copying(layout, device, task_rows) + filters * fetch(device, filters + task_rows)
    return task * ceil(tasks / device.cores) + write(workload, device, point.stream)


def _stream(device: Device, working_set: float) -> float:
    """Return the cycles that each byte of an operand costs, by where data of that size stays.

    All of them count, unlike those of `fetch`: registers of 1 KB leave no room to load far ahead.
    """
    if device.l1_bytes * 0.75 < working_set <= device.l2_bytes * NEAR * 2:
        return 1 / _L2_BYTES_PER_CYCLE
    return fetch(device, working_set)


def _copying(layout: TileLayout, device: Device, copies: float) -> float:
    """Return the cycles for copying so many bytes of positions."""
    positions = copies / (layout.packed_channels * layout.itemsize)
    return (
        positions * _COPY_CYCLES
        + copies / _COPY_BYTES_PER_CYCLE
        + 2 * copies * fetch(device, copies)  # written, and read at first
    )


def _turning(layout: TileLayout, point: Point) -> float:
    """Return the cycles for turning the rows of a task, where channels come first."""
    workload = layout.workload
    depth, height, width = layout.axes
    cycles = 0.0
    if layout.turned:
        rows = inputs(height, layout.folded[1], point.task_h)
        rows *= inputs(depth, layout.folded[0], point.task_d)
        cycles += rows * width.input * workload.in_channels / SQUARE * TURN_CYCLES
    if layout.turned_back:
        rows = point.task_h * height.phases * point.task_d * depth.phases
        cycles += rows * width.output * workload.out_channels / SQUARE * TURN_CYCLES
    return cycles


def _stores(layout: TileLayout) -> float:
    """Return what a vector of results costs beside one that is stored as it is."""
    together = gcd(layout.channels, SQUARE) if layout.channels < layout.lanes else SQUARE
    return 1.0 if together >= _VECTOR else _SCALAR * min(layout.channels, SQUARE)
