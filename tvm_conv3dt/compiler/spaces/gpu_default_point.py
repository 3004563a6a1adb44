"""The default point of the cuda space: an analytic choice, so that an untuned shape is compiled at once.

Every point is given an estimate in cycles of one multiprocessor, and the best is taken. The model knows what decides
on tiled products: multiplications, what of them is done on the padding of tiles, reads of shared memory, what must come
from beyond it, how much of the latency other blocks of threads hide, and how evenly blocks divide among
multiprocessors. Rates are of NVIDIA's architectures since Ampere, by its programming guide, and the same for all: the
model ranks points, and does not predict times.
"""

from __future__ import annotations

from math import ceil, prod

from tvm_conv3dt.compiler.gemm_layout import GemmLayout
from tvm_conv3dt.compiler.spaces import cuda
from tvm_conv3dt.compiler.spaces.point import GpuPoint
from tvm_conv3dt.compiler.spaces.threads import input_vector
from tvm_conv3dt.device import Device
from tvm_conv3dt.gpu import Gpu
from tvm_conv3dt.spec import DTYPES, Workload

__all__ = ["default_points", "estimate", "registers"]

_TILES = 24  # tiles that a search tries before it stays with one
_WARP = 32
_PRODUCTS_PER_CYCLE = {"threads": 128, "warps": 1024}
_FLOAT64_SHARE = 0.5
_SHARED_BYTES_PER_CYCLE = 128
_MEMORY_BYTES_PER_CYCLE = 24  # of one multiprocessor, from the second cache
_ISSUED_PER_CYCLE = 4  # instructions of warps
_FETCH_INSTRUCTIONS = (
    16  # to bring one vector to shared memory: its address, conditions, and the two moves
)
_FETCH_LATENCY = (
    600  # from asking for a tile to having it: at each tap's start, and where a step is shorter
)
_STEP_LATENCY = 200  # barriers, and the first reads of shared memory
_BLOCK_LATENCY = 1500  # start, and the last store
_SECOND_LAUNCH = 4000  # of the kernel that adds the parts
_OWN_REGISTERS = 48  # addresses and counters of a thread
_SURE_REGISTERS = (
    7 / 8
)  # of those there are: beyond, the CUDA compiler may need more than the estimate, and spill
_BLOCKS_AT_A_TIME = 16
_VECTOR_BYTES = 16


def default_points(workload: Workload, device: Device) -> list[GpuPoint]:
    """Return the point with the least `estimate` of each formulation, the least first; of tiles only the best few."""
    best: dict[str, tuple[float, GpuPoint]] = {}
    for point in cuda.points(workload, device):
        cycles = estimate(workload, device, point)
        if point.formulation not in best or cycles < best[point.formulation][0]:
            best[point.formulation] = cycles, point
    ordered = sorted(best.values(), key=lambda each: each[0])
    return [point for _, point in ordered[:_TILES]]


def registers(layout: GemmLayout, point: GpuPoint) -> int:
    """Return about how many registers a thread of a point takes: its results, operands, and what it fetches ahead."""
    threads = cuda.nest_of(layout).threads_of(layout, point.family)
    words = DTYPES[layout.packed_dtype] / 4
    fetched = (layout.positions + layout.lanes) * layout.depth / threads * words
    if input_vector(layout) == 1:  # each element's address
        fetched += 2 * layout.positions * layout.depth / threads
    if point.order == "threads":
        results = point.rows * point.columns * words
        operands = 2 * (point.rows + point.columns) * words
    else:
        results = point.rows * point.columns / _WARP
        operands = (point.rows + point.columns) / 2
    return int(results + operands + fetched) + _OWN_REGISTERS


def estimate(workload: Workload, device: Device, point: GpuPoint) -> float:
    """Return the cycles that a point is expected to take, infinite where it would not fit.

    Parameters
    ----------
    workload, device
        What is computed, and where.
    point : GpuPoint
        How.
    """
    assert device.gpu is not None
    layout = cuda.layout_of(workload, device, point.formulation)
    threads = cuda.nest_of(layout).threads_of(layout, point.family)
    resident = _resident(layout, point, threads, device.gpu)
    if not resident:
        return float("inf")
    # Taps of one phase: the mean over phases, where they are not folded.
    taps = prod(
        axis.folded_taps if folded else axis.kernel / axis.phases
        for axis, folded in zip(layout.axes, layout.folded, strict=True)
    )
    steps = taps * layout.part_channels / layout.depth
    step = _step(layout, point, threads)
    itemsize = DTYPES[workload.sum_dtype if layout.parts > 1 else workload.dtype]
    store = layout.positions * layout.lanes * itemsize / _MEMORY_BYTES_PER_CYCLE
    busy = steps * step + store
    alone = steps * (max(step, _FETCH_LATENCY) + _STEP_LATENCY) + taps * _FETCH_LATENCY
    alone += store + _BLOCK_LATENCY
    blocks = ceil(layout.blocks_of_threads / device.gpu.multiprocessors)
    together = min(resident, blocks)
    cycles = max(blocks * busy, ceil(blocks / together) * alone)
    if layout.parts > 1:
        sums = layout.parts * prod(workload.output_shape) * itemsize
        cycles += _SECOND_LAUNCH + sums / _MEMORY_BYTES_PER_CYCLE / device.gpu.multiprocessors
    return float(cycles)


def _step(layout: GemmLayout, point: GpuPoint, threads: int) -> float:
    """Return the cycles of one step: some input channels of one tap, for a whole tile."""
    itemsize = DTYPES[layout.packed_dtype]
    products = layout.positions * layout.lanes * layout.depth
    multiply = products / _PRODUCTS_PER_CYCLE[point.order]
    if layout.packed_dtype == "float64":
        multiply /= _FLOAT64_SHARE
    # Of each, a thread's (a warp's) rows and columns are read once for each input channel.
    workers = threads if point.order == "threads" else threads // _WARP
    operands = workers * (point.rows + point.columns) * layout.depth * itemsize
    # Threads of a warp that ask for the same are answered at once.
    shared = operands / _SHARED_BYTES_PER_CYCLE / (2 if point.order == "threads" else 1)
    loads = (layout.positions + layout.lanes) * layout.depth
    fetched = loads * itemsize
    memory = fetched / _MEMORY_BYTES_PER_CYCLE
    vectors = loads / input_vector(layout)
    issued = multiply * point.order.count("threads") * _ISSUED_PER_CYCLE
    issued += (operands / _VECTOR_BYTES + vectors * _FETCH_INSTRUCTIONS) / _WARP
    return max(multiply, shared, memory, issued / _ISSUED_PER_CYCLE)


def _resident(layout: GemmLayout, point: GpuPoint, threads: int, gpu: Gpu) -> int:
    """Return how many blocks of threads a multiprocessor holds at a time."""
    taken = registers(layout, point)
    if taken > gpu.registers_per_thread * _SURE_REGISTERS:
        return 0
    return min(
        gpu.threads_per_multiprocessor // threads,
        gpu.registers_per_multiprocessor // (threads * taken),
        gpu.shared_bytes_per_multiprocessor // cuda.shared_bytes(layout),
        _BLOCKS_AT_A_TIME,
    )
