"""What a point of the nest for a CPU's matrix unit is expected to take: see `tvm_conv3dt.compiler.spaces.default_point`."""

from __future__ import annotations

from math import ceil, gcd, prod

from tvm_conv3dt.compiler.operand_registers import Load, piece_steps
from tvm_conv3dt.compiler.pieces import CORRECTIONS
from tvm_conv3dt.compiler.spaces.memory_model import NEAR, NEAR_L1, TURN_CYCLES, fetch, write
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.spaces.tile_nest import copied
from tvm_conv3dt.compiler.spaces.workspace import inputs
from tvm_conv3dt.compiler.split_layout import SplitLayout
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
_TASK_CYCLES = 2000  # begun, and its first copies
_L2_BYTES_PER_CYCLE = 32
_COPY_BYTES_PER_CYCLE = 8  # of a position's channels
_SPLIT_COPY_BYTES_PER_CYCLE = 5  # of pieces of them
_COPY_CYCLES = 7  # where a position lies
_SPLIT_SLACK = 1.1  # times what products of pieces take in fact
_LATENCY_CYCLES = 58  # from a product to the next of the same sum
_PANEL_CYCLES = 80  # where each tile begins with filters that are not the last one's
_SPLIT_TILE_CYCLES = 300  # as `_TILE_CYCLES`: of pieces few are near where a tile begins
_SPLIT_EXPOSED = 0.2  # of the cycles in which operands come near, beside products
_HIDDEN = 0.7  # of the shorter one of a tile's products and results
_PAIRS = (*CORRECTIONS, (0, 0))


def tile_estimate(layout: TileLayout, device: Device, point: Point) -> float:
    """Return the cycles that a point is expected to take, in all, on all cores of `device`."""
    workload = layout.workload
    depth = layout.axes[0]
    rows, columns = layout.squares, layout.column_squares
    taps = layout.mean_taps
    depth_steps = layout.packed_channels // DEPTH
    steps = taps * depth_steps
    phases = prod(layout.phases)
    planes = workload.batch * depth.quotients

    # What lies how far: the filters that follow each other, and the rows that a task reads.
    square = SQUARE * DEPTH * layout.itemsize  # bytes
    panel: float = columns * steps * square
    filters = panel * layout.blocks * phases
    task_rows = float(copied(layout, point.order, point.task_h, point.task_d))
    # What a task takes of a plane: tiles, or rows of tiles.
    share = point.task_h * (layout.row_tiles if layout.by_rows else 1)
    if point.order == "rows":
        far_filters, far_rows = filters, task_rows / share / point.task_d
    elif point.order in ("panels", "phases"):
        far_filters, far_rows = panel, task_rows
    else:
        far_filters = panel
        far_rows = float(layout.row_sizes[0] * layout.plane)
        far_rows *= layout.packed_channels * layout.itemsize
    streamed = columns * square * _stream(device, far_filters + far_rows / 4)
    # Taps along the width read nearly the same: near, unless one tap's pieces fill the first cache.
    along = layout.axes[2].kernel / layout.axes[2].phases
    split = isinstance(layout, SplitLayout)
    if split and depth_steps * (rows + columns) * square >= NEAR_L1 * device.l1_bytes:
        along = 1.0
    streamed += rows * square * _stream(device, far_rows + panel) / max(1.0, along)
    step = (_split_step if split else _step)(rows, columns, streamed)
    position = _POSITION_CYCLES + _VECTOR_CYCLES * columns * _stores(layout)
    products, results = steps * step + taps * _TAP_CYCLES, rows * SQUARE * position
    # The results of one are stored among the products of the next.
    tile = products + results - _HIDDEN * min(products, results)
    tile += _SPLIT_TILE_CYCLES if split else _TILE_CYCLES
    tile += _PANEL_CYCLES * (point.order == "rows")

    all_tiles = float(layout.tiles * layout.blocks * phases)
    if point.order == "filters":
        tasks = layout.blocks * phases
        task = planes * layout.tiles * tile + _TASK_CYCLES
        # Each task's filters come from far, once.
        task += panel * fetch(device, filters)
        once = _copying(layout, device, far_rows * workload.batch) / device.cores + _TASK_CYCLES
        return task * ceil(tasks / device.cores) + once
    tasks = planes // point.task_d * ceil(layout.tiles / share)
    if point.order == "phases":  # a task makes one of depth and height
        apart = prod(layout.phases[:2])
        tasks, all_tiles, filters = tasks * apart, all_tiles / apart, filters / apart
    # No products hide the results of a task's last tile.
    task = all_tiles / layout.tiles * share * point.task_d * tile + results + _TASK_CYCLES
    task += _turning(layout, point)
    task += _copying(layout, device, task_rows) + filters * fetch(device, filters + task_rows)
    return task * ceil(tasks / device.cores) + write(workload, device, point.stream)


def _step(rows: int, columns: int, streamed: float) -> float:
    """Return the cycles of a tile's products of one step, whose operands take so many to come near."""
    loads = (rows + columns) * _LOAD_CYCLES + streamed
    return max(rows * columns * _PRODUCT_CYCLES, loads) + _STEP_CYCLES


def _split_step(rows: int, columns: int, streamed: float) -> float:
    """Return as `_step`, where numbers are split."""
    steps = piece_steps(rows, columns, _PAIRS)
    loads = sum(isinstance(each, Load) for each in steps) * _LOAD_CYCLES
    # Products of one sum wait for each other.
    product = max(_PRODUCT_CYCLES * _SPLIT_SLACK, _LATENCY_CYCLES / (rows * columns))
    products = rows * columns * len(_PAIRS) * product
    return max(products, loads, streamed) + _SPLIT_EXPOSED * streamed


def _stream(device: Device, working_set: float) -> float:
    """Return the cycles that each byte of an operand costs, by where data of that size stays.

    All of them count, unlike those of `fetch`: registers of 1 KB leave no room to load far ahead.
    """
    if device.l1_bytes * NEAR_L1 < working_set <= device.l2_bytes * NEAR * 2:
        return 1 / _L2_BYTES_PER_CYCLE
    return fetch(device, working_set)


def _copying(layout: TileLayout, device: Device, copies: float) -> float:
    """Return the cycles for copying so many bytes of positions."""
    positions = copies / (layout.packed_channels * layout.itemsize)
    split = isinstance(layout, SplitLayout)
    return (
        positions * _COPY_CYCLES
        + copies / (_SPLIT_COPY_BYTES_PER_CYCLE if split else _COPY_BYTES_PER_CYCLE)
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
