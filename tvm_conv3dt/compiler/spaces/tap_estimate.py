"""What a point of the nest for products with all taps is expected to take: see `tvm_conv3dt.compiler.spaces.default_point`."""

from __future__ import annotations

from math import ceil, prod

from tvm_conv3dt.compiler.spaces.memory_model import fetch, write
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.spaces.tap_nest import families, points, tasks
from tvm_conv3dt.compiler.tap_layout import TapLayout
from tvm_conv3dt.compiler.unit_layout import DEPTH, SQUARE
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import Workload

__all__ = ["tap_estimate", "tap_formulations"]

_TURN_CYCLES = 80  # of a square of the input
_LOAD_CYCLES = 8  # of a register from the first cache: two rows each
_STEP_CYCLES = 3
_TILE_CYCLES = 40  # until the last products are there to be stored
_NEAR_BYTES_PER_CYCLE = 48  # what the second cache takes and gives
_TERM_CYCLES = 1.5  # of a vector that is added to a sum: not aligned
_VECTOR_CYCLES = 8.0  # of results: woven, bias, activation, rounded, stored
_LOOP_CYCLES = 6.0  # of taps of depth and height
_SCALAR_CYCLES = 4.0  # of a result that is stored alone
_TASK_CYCLES = 400
_SUM_BYTES = 4
_SQUARE_BYTES = SQUARE * DEPTH * 2
_TASKS = 3  # that are worth a search


def tap_formulations(workload: Workload, device: Device) -> list[str]:
    """Return the formulations that may be the fastest: a few tasks of those that there are, for each choice of axes."""

    def cycles(layout: TapLayout) -> float:
        point = next(points(layout, device, next(families(layout, device))))
        return tap_estimate(layout, device, point)

    return [
        layout.name
        for apart in TapLayout.choices(workload)
        for layout in sorted(tasks(workload, device, apart), key=cycles)[:_TASKS]
    ]


def tap_estimate(layout: TapLayout, device: Device, point: Point) -> float:
    """Return the cycles that a point is expected to take, in all, on all cores of `device`."""
    workload = layout.workload
    planes_read = layout.planes + layout.spans[0]
    channel_steps = layout.packed_channels // DEPTH
    squares = layout.tiles * layout.column_squares

    input_bytes = prod(workload.input) * workload.itemsize
    turn = float(channel_steps * _TURN_CYCLES)
    turn += SQUARE * workload.in_channels * workload.itemsize * fetch(device, input_bytes)
    if layout.deep:
        made = planes_read * layout.tiles * _tile(layout, channel_steps, channel_steps)
    else:
        turn += channel_steps * _SQUARE_BYTES / _NEAR_BYTES_PER_CYCLE
        phases = layout.phases[0]
        steps = channel_steps * layout.axes[0].kernel / phases
        made = layout.planes * phases * layout.tiles * _tile(layout, steps, 0)
    task = planes_read * squares * turn + made + _TASK_CYCLES
    task += layout.planes * layout.task_rows * _sums(layout)
    tasks = workload.batch * prod(layout.tasks)
    return task * ceil(tasks / device.cores) + write(workload, device, point.stream)


def _tile(layout: TapLayout, steps: float, near: float) -> float:
    """Return the cycles of a tile's products, all filters; operands of `near` steps were made just before."""
    rows, columns = layout.squares, layout.column_squares
    left = rows * SQUARE
    if layout.filter_blocks == 1 and rows <= columns:
        left = layout.filters
    loads = (rows + columns) * _LOAD_CYCLES
    far = columns * _SQUARE_BYTES / _NEAR_BYTES_PER_CYCLE
    step = max(left * columns, loads) + _STEP_CYCLES
    block = steps * step + max(0.0, steps - near) * far / layout.filter_blocks
    stored = left * columns * SQUARE * _SUM_BYTES / _NEAR_BYTES_PER_CYCLE
    return layout.filter_blocks * (block + stored + _TILE_CYCLES)


def _sums(layout: TapLayout) -> float:
    """Return the cycles of the results of one row of positions, all phases."""
    _, _, width = layout.axes
    phases = layout.phases[0] * layout.phases[1]
    # Taps of one phase of depth and height, and of one output: the mean over phases.
    depth, height, _ = (
        axis.kernel / count for axis, count in zip(layout.axes, layout.phases, strict=True)
    )
    turns = depth * height if layout.deep else height
    terms = turns * width.kernel / width.phases
    vector = layout.outputs * (terms * _TERM_CYCLES + _VECTOR_CYCLES) + turns * _LOOP_CYCLES
    row = layout.row_vectors * vector
    if layout.row_vectors * SQUARE * width.stride > width.output:
        row += SQUARE * layout.outputs * _SCALAR_CYCLES
    return phases * row
