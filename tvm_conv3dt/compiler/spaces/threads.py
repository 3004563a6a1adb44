"""What the nests for GPUs share: work of a tile divided among the threads of a block, in vectors where memory allows."""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import s_tir

from tvm_conv3dt.compiler.gemm_layout import GemmLayout
from tvm_conv3dt.spec import DTYPES

__all__ = [
    "divide",
    "fetch_ahead",
    "fetch_filters",
    "fetch_input",
    "input_vector",
    "start",
    "store_vector",
]

_VECTOR_BYTES = 16
"""What one thread can load or store at once."""

_THREADS_OF_SUMS = 256

_MOST_TURNS = 32
"""Of a loop that the CUDA compiler unrolls whatever is in it: what the loop fills then is in registers."""


def start(sch: s_tir.Schedule, layout: GemmLayout) -> tuple[Any, Any, Any]:
    """Divide the results into tiles, one for a block of threads.

    Where the input channels are shared among blocks, what they make is sums in memory, which ``y`` adds up at the end.

    Returns
    -------
    tuple
        The loop over tiles, and those over a tile's positions and channels.
    """
    y = sch.get_sblock("y")
    if layout.parts > 1:
        last = sch.cache_write(sch.get_sblock("accumulator"), 0, "local")
        loop = sch.fuse(*sch.get_loops(y))
        block, thread = sch.split(loop, [None, _THREADS_OF_SUMS])
        sch.bind(block, "blockIdx.x")
        sch.bind(thread, "threadIdx.x")
    else:
        last = y
    *part, rd, rh, rw, cb, m, v = sch.get_loops(last)
    tile, m = sch.split(m, [None, layout.positions])
    sch.reorder(*part, tile, rd, rh, rw, cb, m, v)
    # Phases and channels of the same positions follow each other: they read the same input.
    block = sch.fuse(*part, tile, rd, rh, rw, cb)
    sch.bind(block, "blockIdx.x")
    # The CUDA compiler unrolls as well, and TVM would take minutes where an activation is long.
    sch.annotate(block, "pragma_unroll_explicit", 0)
    return block, m, v


def divide(sch: s_tir.Schedule, loop: Any, threads: tuple[int, ...], vector: int) -> None:
    """Divide the turns of a loop among the threads of a block, `vector` neighbours to each at a time.

    Parameters
    ----------
    threads : tuple of int
        Threads along x, or along y and x.
    """
    loop, inner = sch.split(loop, [None, vector])
    if vector > 1:
        sch.vectorize(inner)
    for each, name in zip(reversed(sch.split(loop, [None, *threads])[1:]), "xy", strict=False):
        sch.bind(each, f"threadIdx.{name}")


def fetch_input(
    sch: s_tir.Schedule, block: Any, layout: GemmLayout, threads: tuple[int, ...]
) -> None:
    """Let a block's threads bring the input's tile: in the order in which it lies in memory."""
    first, second = sch.get_loops(block)[-2:]
    positions, channels = (first, second) if layout.matrix_units else (second, first)
    workload = layout.workload
    if workload.data_format == "NCDHW":
        sch.reorder(channels, positions)
        divide(sch, sch.fuse(channels, positions), threads, 1)
        return
    sch.reorder(positions, channels)
    divide(sch, sch.fuse(positions, channels), threads, input_vector(layout))


def input_vector(layout: GemmLayout) -> int:
    """Return how many neighbouring elements of the input a thread brings at once."""
    workload = layout.workload
    if workload.data_format == "NCDHW" or workload.dtype == "bfloat16":
        return 1  # each element is somewhere else, or is widened by itself
    # Elements that are widened make vectors of twice as many bytes.
    vector = _VECTOR_BYTES // DTYPES[layout.packed_dtype]
    whole = workload.in_channels % vector == 0 and layout.depth % vector == 0
    return vector if whole else 1


def fetch_filters(
    sch: s_tir.Schedule, block: Any, layout: GemmLayout, threads: tuple[int, ...]
) -> None:
    """Let a block's threads bring the filters' tile, which lies in one piece."""
    divide(sch, sch.fuse(*sch.get_loops(block)[-2:]), threads, _filter_vector(layout))


def _filter_vector(layout: GemmLayout) -> int:
    vector = _VECTOR_BYTES // DTYPES[layout.packed_dtype]
    while layout.lanes % vector:
        vector //= 2
    return vector


def fetch_ahead(
    sch: s_tir.Schedule, step: Any, layout: GemmLayout, threads: tuple[int, ...]
) -> None:
    """Let threads ask for the next step's tiles before they multiply: they wait in registers meanwhile.

    The loop over steps has five parts then: the input to registers and on to shared memory, the filters the same way,
    and the products. Where there is one step there is nothing to ask for, and where a thread brings very much no
    registers are for it.
    """
    turns = layout.positions // input_vector(layout), layout.lanes // _filter_vector(layout)
    if layout.part_channels == layout.depth or max(turns) * layout.depth > _MOST_TURNS * prod(
        threads
    ):
        return
    for name in ("gathered", "filters"):
        sch.annotate(sch.get_sblock(name), "tirx.manifest_shared_memory_local_stage", 1)
    sch.annotate(step, "software_pipeline_stage", [0, 0, 0, 0, 1])
    sch.annotate(step, "software_pipeline_order", [0, 3, 1, 4, 2])


def store_vector(layout: GemmLayout, most: int) -> int:
    """Return how many neighbouring channels of a result, up to `most`, a thread can store at once."""
    workload = layout.workload
    simple = (
        workload.data_format == "NDHWC"
        and not any(layout.folded)
        and layout.channels >= layout.lanes
        and workload.dtype != "bfloat16"
        and workload.activation not in ("elu", "sigmoid", "tanh")
    )
    while simple and most > 1 and workload.out_channels % most:
        most //= 2
    return most if simple else 1
