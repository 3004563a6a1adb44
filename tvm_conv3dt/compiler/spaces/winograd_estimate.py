"""What a point of the nest for Winograd's filtering is expected to take: see `tvm_conv3dt.compiler.spaces.default_point`."""

from __future__ import annotations

from math import ceil, inf, prod

from tvm_conv3dt.compiler.spaces.core_model import FMA_LATENCY, LOADS_PER_CYCLE, multiply_adds
from tvm_conv3dt.compiler.spaces.memory_model import fetch, write
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.spaces.winograd_nest import PHASES, copied, families, points, tasks
from tvm_conv3dt.compiler.winograd_layout import WinogradLayout
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import Workload

__all__ = ["winograd_estimate", "winograd_formulations"]

_LOAD_CYCLES = 0.15  # of a load that do not hide behind multiply-adds
_TILE_CYCLES = 12  # of a register tile, beside its products: cleared, stored
_COPY_CYCLES = 2.0  # of a vector of the input
_INPUT_CYCLES = 4.0  # of a vector of a point: read, added up along three axes, stored
_RESULT_CYCLES = 4.0  # of a vector of products that is added up
_STORE_CYCLES = 6.0  # of a vector of results
_TASK_CYCLES = 400
_REGION_CYCLES = 8000  # of what all cores begin and end together
_KEPT = 1.5  # times as much of the second cache as `fetch` counts on has what a task makes
_AMONG = 2  # times the size of filters is what else stays near between calls
_COLD = 2.0  # times as long filters take that come from memory: little of it hides
_AGAIN = 0.5  # of what filters take on their way later: cores read the same
_EXPOSED = 0.3  # of the shorter of products and that; the rest hides behind the other
_ITEMSIZE = 4
_TASKS = 6  # that are worth a search


def winograd_formulations(workload: Workload, device: Device) -> list[str]:
    """Return the formulations that may be the fastest: a few tasks of those that there are."""

    def cycles(layout: WinogradLayout) -> float:
        return min(
            winograd_estimate(layout, device, point)
            for family in families(layout, device)
            for point in points(layout, device, family)
        )

    return [each.name for each in sorted(tasks(workload, device), key=cycles)[:_TASKS]]


def winograd_estimate(layout: WinogradLayout, device: Device, point: Point) -> float:
    """Return the cycles that a point is expected to take, in all, on all cores of `device`."""
    workload, groups, products = layout.workload, layout.task_groups, layout.products
    in_vectors, vectors = layout.in_blocks, point.vectors
    tile = min(point.tile_w, groups)
    loads = tile + vectors
    step = _LOAD_CYCLES * loads + max(
        tile * vectors / multiply_adds(device, 8 * _ITEMSIZE * layout.lanes),
        loads / LOADS_PER_CYCLE,
        FMA_LATENCY,
    )
    tiles = products * ceil(groups / tile) * (layout.blocks // vectors)
    multiplying = tiles * (step * workload.in_channels + _TILE_CYCLES + tile * vectors)
    phases = prod(layout.phases)
    regions = phases if point.order == PHASES else 1
    tasks_of_all = workload.batch * prod(layout.tasks)
    rounds = ceil(tasks_of_all / device.cores)
    # Each task reads all filters: the first of a core from far, the others from where those of a region stay.
    vector_bytes = workload.in_channels * layout.lanes * _ITEMSIZE
    filter_bytes = layout.blocks * vector_bytes
    filters = prod(layout.filters) * filter_bytes
    first = fetch(device, _AMONG * filters)
    if first == fetch(device, inf):
        first *= _COLD
    later = _AGAIN * fetch(device, filters / regions)
    reading = filters * (first + (rounds - 1) * later) / rounds
    task = max(multiplying, reading) + _EXPOSED * min(multiplying, reading)
    task += _COPY_CYCLES * layout.copied_positions * in_vectors * regions
    task += _INPUT_CYCLES * products * groups * in_vectors
    results = prod(layout.results) * phases
    task += groups * layout.blocks * (_RESULT_CYCLES * products + _STORE_CYCLES * results)

    # The filters of a panel are read by each of its tiles, and sums of inputs by each panel.
    again = ceil(groups / tile) - 1
    task += products * filter_bytes * again * fetch(device, vectors * vector_bytes)
    sums = groups * workload.in_channels * _ITEMSIZE
    made = copied(layout, vectors) + prod(layout.points) * vector_bytes
    task += products * sums * (layout.blocks // vectors) * fetch(device, made)
    # Sums of inputs and products are stored, and products read.
    stored = products * (sums + 2 * groups * layout.blocks * layout.lanes * _ITEMSIZE)
    task += stored * fetch(device, copied(layout, vectors) / _KEPT)
    total = (task + _TASK_CYCLES * regions) * rounds + _REGION_CYCLES * regions
    # Every region reads the whole input.
    inputs = prod(workload.input) * _ITEMSIZE
    outputs = prod(workload.output_shape) * _ITEMSIZE
    total += inputs * regions * fetch(device, inputs + outputs) * rounds / tasks_of_all
    return float(total + write(workload, device, point.stream))
