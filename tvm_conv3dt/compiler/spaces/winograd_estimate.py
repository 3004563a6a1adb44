"""What a point of the nest for Winograd's filtering is expected to take: see `tvm_conv3dt.compiler.spaces.default_point`."""

from __future__ import annotations

from math import ceil, prod

from tvm_conv3dt.compiler.spaces.memory_model import fetch, write
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.spaces.winograd_nest import copied, families, points, tasks
from tvm_conv3dt.compiler.winograd_layout import WinogradLayout
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import Workload

__all__ = ["winograd_estimate", "winograd_formulations"]

_FMA_PER_CYCLE = 2
_FMA_LATENCY = 4
_LOADS_PER_CYCLE = 1.6
_TILE_CYCLES = 12  # of a register tile, beside its products: cleared, stored
_COPY_CYCLES = 2.0  # of a vector of the input
_INPUT_CYCLES = 4.0  # of a vector of a point: read, added up along three axes, stored
_RESULT_CYCLES = 4.0  # of a vector of products that is added up
_STORE_CYCLES = 6.0  # of a vector of results
_TASK_CYCLES = 400
_EXPOSED = 0.3  # of what filters take on their way: the rest hides behind products
_ITEMSIZE = 4
_TASKS = 3  # that are worth a search


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
    in_vectors, vectors = workload.in_channels / layout.lanes, point.vectors
    tile = min(point.tile_w, groups)
    step = max(tile * vectors / _FMA_PER_CYCLE, (tile + vectors) / _LOADS_PER_CYCLE, _FMA_LATENCY)
    tiles = products * ceil(groups / tile) * (layout.blocks // vectors)
    task = tiles * (step * workload.in_channels + _TILE_CYCLES + tile * vectors)
    task += _COPY_CYCLES * layout.copied_positions * in_vectors
    task += _INPUT_CYCLES * products * groups * in_vectors
    results = prod(each.results for each in layout.filterings) * prod(layout.phases)
    task += groups * layout.blocks * (_RESULT_CYCLES * products + _STORE_CYCLES * results)

    # All filters are read by each task, and those of a panel by each of its tiles; sums of inputs by each panel.
    filters = products * workload.in_channels * layout.blocks * layout.lanes * _ITEMSIZE
    task += _EXPOSED * filters * fetch(device, filters)
    panel = workload.in_channels * vectors * layout.lanes * _ITEMSIZE
    task += filters * (ceil(groups / tile) - 1) * fetch(device, panel)
    sums = groups * workload.in_channels * _ITEMSIZE
    near = copied(layout, vectors) + prod(layout.points) * workload.in_channels * layout.lanes * 4
    task += products * sums * (layout.blocks // vectors) * fetch(device, near)
    tasks_of_all = workload.batch * prod(layout.tasks)
    total = (task + _TASK_CYCLES) * ceil(tasks_of_all / device.cores)
    return float(total + write(workload, device, point.stream))
