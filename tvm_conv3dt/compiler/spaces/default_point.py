"""The default point of the llvm space: an analytic choice, so that an untuned shape is fast at once.

Every point of the space is given an estimate in cycles, and the best is taken. The model knows what
decides on such a nest: how full the register tile keeps the multipliers, tiles at the ends of rows and of
channels, how far from the core the streamed operand lies, how evenly the tasks divide among the cores, and
the copying of padded input. Its constants are of a common out-of-order core; they rank points, no more.
"""

from __future__ import annotations

from math import ceil, prod

from tvm_conv3dt.compiler.definition import AnyLayout
from tvm_conv3dt.compiler.dot_layout import DOT_HALVES, DOT_PAIRS, DotLayout
from tvm_conv3dt.compiler.half_layout import HalfLayout
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.mmla import BLOCK
from tvm_conv3dt.compiler.mmla_layout import MmlaLayout
from tvm_conv3dt.compiler.pair_layout import PairLayout
from tvm_conv3dt.compiler.part_layout import PartLayout
from tvm_conv3dt.compiler.spaces.channel_nest import stores_vectors
from tvm_conv3dt.compiler.spaces.core_model import (
    FMA_LATENCY,
    LOADS_PER_CYCLE,
    adds_apart,
    multiply_adds,
)
from tvm_conv3dt.compiler.spaces.dot_nest import asks_ahead
from tvm_conv3dt.compiler.spaces.llvm import layout_of, points
from tvm_conv3dt.compiler.spaces.memory_model import NEAR, TURN_CYCLES, fetch, write
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.spaces.tap_estimate import tap_estimate
from tvm_conv3dt.compiler.spaces.tile_estimate import tile_estimate
from tvm_conv3dt.compiler.spaces.winograd_estimate import winograd_estimate
from tvm_conv3dt.compiler.tap_layout import TapLayout
from tvm_conv3dt.compiler.tile_layout import TileLayout
from tvm_conv3dt.compiler.whole_layout import WholeLayout
from tvm_conv3dt.compiler.winograd_layout import WinogradLayout
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import Workload

__all__ = ["default_point", "default_points", "estimate"]

_TILE_CYCLES = 16  # start, bias, activation and store of one tile, less what its size adds
_BLOCK_CYCLES = 4  # of a vector of float16 that is added to two of float32
_TREE_APART = 0.3  # of sums over lanes: the rest hides behind multiply-adds, where additions have units of their own
_PARTS_APART = 1.4  # times as long parts of channels' products take on such cores
_TAP_CYCLES = 4  # one turn of the loops over taps
_TASK_CYCLES = 200
_NEAR_BYTES_PER_CYCLE = 60  # of the second cache, in part behind arithmetic
_AHEAD = 0.5  # of what data from far take, where they are asked for ahead
_RUN_CYCLES = 400  # of the rows of one channel that are together where channels come first: far from all others


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
    if isinstance(layout, DotLayout):
        return _dot_estimate(layout, device, point)
    if isinstance(layout, TapLayout):
        return tap_estimate(layout, device, point)
    if isinstance(layout, WinogradLayout):
        return winograd_estimate(layout, device, point)
    if isinstance(layout, TileLayout):
        return tile_estimate(layout, device, point)
    return _channel_estimate(layout, device, point)


def _dot_estimate(layout: DotLayout, device: Device, point: Point) -> float:
    """Estimate a point of `tvm_conv3dt.compiler.spaces.dot_nest`."""
    workload = layout.workload
    depth, height, width = layout.axes
    outputs_per_row_phase = depth.phases * height.phases
    # Taps of depth and height of one phase, and multiplications of one output, both the mean over phases.
    turns = depth.kernel * height.kernel / outputs_per_row_phase * layout.in_blocks
    products = layout.outputs * turns * width.kernel / width.phases
    vector = (
        _dot_operations(layout, device, products, layout.inputs * turns)
        / multiply_adds(device, device.vector_bits)
        + _TAP_CYCLES * turns
        # The tree of shuffles and additions.
        + 2 * (layout.lanes - 1) * (_TREE_APART if adds_apart(device) else 1.0)
        + _TILE_CYCLES
    )
    row = layout.row_vectors * vector * outputs_per_row_phase
    # How often each row of the input comes from far: once, and again where what lies between two uses fills the cache.
    deep = point.order.endswith("deep")
    row_bytes = width.input * workload.in_channels * layout.itemsize
    rows_near = (point.task_h + height.taps - 1) * row_bytes
    kept = NEAR * device.l2_bytes
    times = 1 + (height.taps - 1) / point.task_h
    if not deep or rows_near * (depth.taps + 1) > kept:
        times *= depth.taps
    if point.order.startswith("rows") and rows_near * depth.taps > kept:
        times *= outputs_per_row_phase
    far = times * row_bytes * fetch(device, prod(workload.input_spatial) * row_bytes / width.input)
    row += far * (_AHEAD if asks_ahead(workload, device, point.order) else 1.0)
    row += layout.row_vectors * _dot_near_bytes(layout, device, point) / _NEAR_BYTES_PER_CYCLE
    rows_of_task = min(point.task_h, height.quotients) * (depth.quotients if deep else 1)
    tasks = workload.batch * ceil(height.quotients / point.task_h)
    if deep:
        # The last rows are none: the core that they fall to has less to do than others.
        rounds = min(tasks, ceil(workload.batch * layout.rows / point.task_h / device.cores))
    else:
        rounds = ceil(tasks * depth.quotients / device.cores)
    task = row * rows_of_task + _TASK_CYCLES
    # Where rows are turned no order is a deep one.
    task += _copying(layout, (point.task_h + height.taps) * depth.taps * width.input, depth.taps)
    written = point.task_h * depth.phases * height.phases
    task += _turning_back(layout, written * width.output, written)
    return float(task * rounds)


def _dot_near_bytes(layout: DotLayout, device: Device, point: Point) -> float:
    """Return the bytes that one vector of a row, all phases, has from the second cache: of the input, and of filters."""
    depth, height, _ = layout.axes
    read = layout.inputs * layout.workload.in_channels * layout.itemsize  # of one row
    filters = float(prod(layout.packed_shape) * layout.itemsize)
    near = 0.75 * device.l1_bytes
    if not point.order.startswith("columns"):
        phases = depth.phases * height.phases
        return depth.kernel * height.kernel * read + filters * (filters / phases > near)
    stretch = depth.taps * (point.task_h + height.taps - 1) * read
    if stretch + filters <= near:
        return stretch / point.task_h
    return depth.kernel * height.kernel * read + filters


def _pair_cost(device: Device) -> float:
    """Return how many multiply-adds take as long as an instruction for pairs.

    CPUs with matrix units are Intel's, whose vectors start one every second cycle (measured: half the products of float32).
    Others, AMD's from Zen 4 on, start as many as multiply-adds: twice the products.
    """
    return 4.0 if "amx_bf16" in device.cpu_features else 1.0


def _dot_operations(layout: DotLayout, device: Device, products: float, inputs: float) -> float:
    """Return how many multiply-adds take as long as so many products of blocks, whose inputs are so many blocks."""
    if layout.formulation == DOT_PAIRS:
        return products * _pair_cost(device)
    if layout.formulation == DOT_HALVES:
        return 2 * products + 2 * inputs  # of each input a shift and a mask
    widened = layout.workload.dtype == "bfloat16"  # zeros put between, and a shift
    return products + 2 * inputs * widened


def _channel_estimate(layout: Layout, device: Device, point: Point) -> float:
    """Estimate a point of `tvm_conv3dt.compiler.spaces.channel_nest`."""
    workload = layout.workload
    depth, height, width = layout.axes
    phases, width_phases = prod(layout.phases), layout.phases[2]
    depth_of_sum = layout.multiplications
    taps = layout.mean_taps

    tiles_h = ceil(height.quotients / point.tile_h)
    tiles_w = ceil(layout.columns / point.tile_w)
    tiles_c = ceil(layout.blocks / point.vectors)
    rows = workload.batch * depth.quotients * tiles_h  # of tiles
    # Of a row of tiles, one phase of depth and height, all phases of width.
    tile = _tile_cycles(layout, device, point.tile_h * point.tile_w, point.vectors)
    row_cycles = tiles_w * tiles_c * tile

    itemsize = layout.itemsize
    panel = point.vectors * layout.lanes * depth_of_sum * itemsize
    phase_filters = layout.blocks * layout.lanes * depth_of_sum * itemsize * width_phases
    row_input = width.quotients * point.tile_h * workload.in_channels * itemsize * ceil(taps)
    rows_of_task = rows if point.order == "filters" else point.task_h
    if point.order == "rows":
        # Each tile of positions streams the filters of all channels and of the phases along the width.
        near = phase_filters + row_input * rows_of_task
        row_cycles += fetch(device, near) * tiles_w * phase_filters / width_phases
    else:
        row_cycles += fetch(device, panel) * tiles_w * tiles_c * panel
        # Taps read the same rows again.
        inputs = prod(workload.input_spatial) * workload.in_channels * itemsize
        near = min(row_input * rows_of_task, inputs) + panel
        row_cycles += fetch(device, near) * tiles_c * row_input
    # The first row of a task brings the filters near.
    all_filters = phase_filters / width_phases * phases
    row_cycles += fetch(device, all_filters) * phase_filters / width_phases / rows_of_task
    cycles = row_cycles * phases

    if point.order == "filters":
        tasks = phases * tiles_c
        total = cycles * rows / tasks * ceil(tasks / device.cores)
        total += _TASK_CYCLES * layout.copied
        total += _copying(layout, prod(workload.input_spatial), 0) / device.cores
        total += write(workload, device, point.stream)
        return total + _turning_back(layout, prod(workload.output_spatial), 0) / device.cores
    tasks = workload.batch * depth.quotients * ceil(tiles_h / point.task_h)
    task = cycles * min(point.task_h, tiles_h) + _TASK_CYCLES
    planes = 1 + layout.taps[0]
    read_rows = (point.task_h * point.tile_h + layout.taps[1]) * planes
    task += _copying(layout, read_rows * (width.quotients + 2), planes)
    written_rows = point.task_h * point.tile_h * depth.phases * height.phases
    task += _turning_back(layout, written_rows * width.output, depth.phases)
    return float(task * ceil(tasks / device.cores)) + write(workload, device, point.stream)


def _copying(layout: AnyLayout, positions: int, planes: int) -> float:
    """Cycles for copying so many positions of the input, in so many planes."""
    channels = layout.workload.in_channels
    turning = _turning(layout, positions, planes, channels) if layout.turned else 0
    return positions * channels / layout.lanes * layout.padded + turning


def _turning_back(layout: AnyLayout, positions: int, planes: int) -> float:
    """Cycles for turning so many positions of the results, in so many planes."""
    if not layout.turned_back:
        return 0.0
    return _turning(layout, positions, planes, layout.workload.out_channels)


def _turning(layout: AnyLayout, positions: int, planes: int, channels: int) -> float:
    return positions * channels / layout.lanes * TURN_CYCLES + planes * channels * _RUN_CYCLES


def _tile_cycles(layout: Layout, device: Device, positions: int, vectors: int) -> float:
    """Cycles of one register tile whose operands are in the first cache."""
    taps = layout.mean_taps
    turns, cost, filters = taps * layout.sum_channels, 1.0, vectors
    if isinstance(layout, PairLayout):
        cost = _pair_cost(device)
    if isinstance(layout, MmlaLayout):
        # Of a pair of positions and a vector of channels two instructions; they are as fast as multiply-adds.
        turns, cost, filters = taps * layout.quads, float(BLOCK), BLOCK * vectors
    read = positions * (layout.present if isinstance(layout, WholeLayout) else 1.0)
    step = max(
        read * vectors * cost / multiply_adds(device, device.vector_bits),
        (read + filters) / LOADS_PER_CYCLE,
        FMA_LATENCY,
    )
    whole, sums = stores_vectors(layout), 0.0
    if isinstance(layout, HalfLayout):
        whole = whole and layout.channels >= layout.lanes
        sums = positions * vectors * layout.sum_blocks * taps / prod(layout.taps) * _BLOCK_CYCLES
    if isinstance(layout, PartLayout):
        sums = positions * (layout.parts - 0.5)  # of each a shuffle, and an addition to another
        turns *= _PARTS_APART if adds_apart(device) else 1.0
    stores = positions * filters * (1 if whole else layout.stored_lanes)
    return step * turns + sums + _TAP_CYCLES * taps + _TILE_CYCLES + stores
