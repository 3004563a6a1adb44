"""How it is computed on a CPU: phases with a register tile.

The innermost loops are the same everywhere: ``tile_w`` positions of qw times ``vectors`` vectors of
channels, unrolled, so that the accumulators stay in registers while taps and input channels run by; then
the tile is stored once, bias and activation on the way. Tiles at the end of a row or of the channels are
loops of their own: no predicate runs in the inner loop.

What differs is the order of the loops around them::

    "rows"     parallel (n, qd, blocks of qh); rd, rh; qh, tiles of qw; rw, tiles of channels
    "panels"   parallel (n, qd, blocks of qh); rd, rh; rw, tiles of channels; qh, tiles of qw
    "filters"  parallel (rd, rh, rw, tiles of channels); n, qd, qh, tiles of qw

"rows" keeps a tile's input in cache and streams the filters, "panels" keeps a panel of filters and
streams the input rows of the task; both write the output in order. "filters" is for few positions and many channels: each
task reads its own filters, once.

With folded phases (see `tvm_conv3dt.compiler.layout`) the same nest runs over fewer phases and more channels.

Where the input needs zeros around it, each task of "rows" and "panels" copies the input rows it reads
into a padded buffer of its own; "filters" pads the (small) input once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from tvm import s_tir

from tvm_conv3dt.compiler.activation import EXPENSIVE
from tvm_conv3dt.compiler.layout import PHASES, Layout
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import Workload

__all__ = [
    "ORDERS",
    "Point",
    "apply",
    "families",
    "formulations",
    "layout_of",
    "point_of",
    "stores_vectors",
    "tile_h_candidates",
    "tile_w_candidates",
]

ORDERS = ("rows", "panels", "filters")

# Gives the index of a candidate for the decision of a name, or None: then it is sampled.
Choose = Callable[[str, list[int]], int | None]

# What a kernel may take beside its arguments: so many bytes, or this share of the output where that is more.
_WORKSPACE_BYTES = 1 << 20
_WORKSPACE_SHARE = 0.05

# Names formulation and loop order in a trace, where all other decisions are samples.
_MARK = "conv3d_transpose"


@dataclass(frozen=True)
class Point:
    """One point of the space: every decision made. "filters" does not use `tile_h`."""

    formulation: str
    order: str
    vectors: int
    tile_w: int
    tile_h: int = 1

    def choose(self, name: str, candidates: list[int]) -> int:
        """Return which of `candidates` this point has for the decision `name`."""
        return candidates.index(getattr(self, name))


def point_of(trace: s_tir.schedule.Trace) -> Point:
    """Return the decisions that a trace of `apply` holds."""
    marks = [str(inst.attrs[0]) for inst in trace.insts if inst.kind.name == "Annotate"]
    _, formulation, order = next(m for m in marks if m.startswith(_MARK)).split(":")
    samples = [
        int(inst.attrs[0][int(trace.get_decision(inst))])
        for inst in trace.insts
        if inst.kind.name == "SampleCategorical"
    ]
    return Point(formulation, order, *samples)


@lru_cache(maxsize=64)
def layout_of(workload: Workload, device: Device, formulation: str) -> Layout:
    """Return the layout of `workload` for the vectors of `device`."""
    return Layout(workload, device.vector_bits // (8 * workload.itemsize), formulation)


def formulations(workload: Workload, device: Device) -> list[str]:
    """Return the formulations that may be the fastest: folded ones where channels do not fill a vector."""
    plain = layout_of(workload, device, PHASES)
    if workload.out_channels >= plain.lanes:
        return [PHASES]
    axes = [name for name, axis in zip("dhw", plain.axes, strict=True) if axis.phases > 1]
    folded = [f"fold-{''.join(axes[start:])}" for start in range(len(axes))]
    # As many channels as there are outputs in a volume would make one task of it all.
    most = plain.lanes * 64
    return [
        PHASES,
        *(each for each in folded if layout_of(workload, device, each).channels <= most),
    ]


def families(layout: Layout) -> Iterator[tuple[str, int]]:
    """Yield the structural choices, order and vectors: one design space each."""
    # "filters" fuses the phases, where the remainders of a dilation are simplified wrongly: see `definition._first`.
    dilated = any(axis.dilation > 1 for axis in layout.axes)
    whole_input = (layout.axes[0].quotients, layout.axes[1].quotients)
    small = not dilated and _fits(layout, whole_input, copies=1)
    for order in ORDERS if small else ORDERS[:2]:
        for vectors in (1, 2, 3, 4):
            whole = layout.blocks % vectors == 0
            if vectors <= layout.blocks and (whole or order != "filters"):
                yield order, vectors


def tile_w_candidates(layout: Layout, device: Device, vectors: int) -> list[int]:
    """Return the numbers of positions whose accumulators fit the registers beside their operands."""
    # One register holds the broadcast input, `vectors` hold filters.
    room = (device.vector_registers - 1 - vectors) // vectors
    return [t for t in range(1, room + 1) if t <= layout.axes[2].quotients]


def tile_h_candidates(layout: Layout, device: Device) -> list[int]:
    """Return the numbers of rows that a task may take, with a workspace that stays within bounds."""
    height = layout.axes[1].quotients
    candidates = sorted({min(height, t) for t in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)})
    return [t for t in candidates if t == 1 or _fits(layout, (1, t), device.cores)]


def _fits(layout: Layout, tile: tuple[int, int], copies: int) -> bool:
    """Whether padded copies of the input of tasks of `tile` positions of depth and height are small."""
    if not layout.padded:
        return True
    workload, axes = layout.workload, layout.axes
    size = copies * workload.in_channels * workload.itemsize
    for axis, halo, positions in zip(axes, layout.halo, (*tile, axes[2].quotients), strict=True):
        whole = axis.input + sum(halo)
        # Positions less one, and from the first to the last input that one position reads.
        size *= min(whole, whole - axis.quotients + positions)
    output = prod(workload.output_shape) * workload.itemsize
    return size <= max(_WORKSPACE_BYTES, _WORKSPACE_SHARE * output)


def stores_vectors(layout: Layout) -> bool:
    """Whether the lanes of each vector stand together in the output."""
    together = layout.workload.out_channels
    if layout.folded[2]:
        together *= layout.axes[2].phases
    return together % layout.lanes == 0 or not any(layout.folded)


def apply(
    sch: s_tir.Schedule,
    layout: Layout,
    device: Device,
    order: str,
    vectors: int,
    choose: Choose,
) -> None:
    """Schedule an operator in place.

    Parameters
    ----------
    sch : tvm.s_tir.Schedule
        Holds the function of `tvm_conv3dt.compiler.definition.define`.
    layout, device
        What it computes, and where.
    order, vectors
        The structural choices, see `families`.
    choose : callable
        ``choose(name, candidates)`` gives the index of a decision's candidate, or None to sample it:
        a point's own method, or a search's.
    """

    def decide(name: str, candidates: list[int]) -> Any:
        uniform = [1 / len(candidates)] * len(candidates)
        return sch.sample_categorical(candidates, uniform, decision=choose(name, candidates))

    y = sch.get_sblock("y")
    accumulator = sch.get_sblock("accumulator")
    # Unrolled, an exponential for each vector of the tile is more code than all the rest; and a loop over the
    # tile would keep the accumulators out of registers, unless it goes over a copy.
    copied = layout.workload.activation in EXPENSIVE and stores_vectors(layout)
    if copied:
        tile = sch.cache_read(y, 0, "local")
    n, qd, rd, qh, rh, qw, rw, cb, v = sch.get_loops(y)
    sch.annotate(y, f"{_MARK}:{layout.formulation}:{order}", 1)
    tile_c = decide("vectors", [vectors])
    tile_w = decide("tile_w", tile_w_candidates(layout, device, vectors))
    qw_outer, qw_inner = sch.split(qw, [None, tile_w])
    cb_outer, cb_inner = sch.split(cb, [None, tile_c])
    if order == "filters":
        parallel = [rd, rh, rw, cb_outer]
        middle = [n, qd, qh, qw_outer]
    else:
        tile_h = decide("tile_h", tile_h_candidates(layout, device))
        qh_outer, qh_inner = sch.split(qh, [None, tile_h])
        parallel = [n, qd, qh_outer]
        positions, channels = [qh_inner, qw_outer], [rw, cb_outer]
        middle = positions + channels if order == "rows" else channels + positions
        middle = [rd, rh, *middle]
    sch.reorder(*parallel, *middle, qw_inner, cb_inner, v)
    # A loop that is fused cannot be split into body and tail: `families` gives "filters" no tail of channels.
    for tail in (qw_outer,) if order == "filters" else (qw_outer, cb_outer):
        sch.annotate(tail, "pragma_loop_partition_hint", 1)
    task = sch.fuse(*parallel)
    sch.parallel(task)

    if copied:
        sch.compute_at(tile, middle[-1], preserve_unit_loops=True)
    sch.compute_at(accumulator, middle[-1], preserve_unit_loops=True)
    sch.set_scope(accumulator, 0, "local")
    *_, a_qw, _, a_cb, a_v, jd, jh, jw, ci = sch.get_loops(accumulator)
    sch.reorder(jd, jh, jw, ci, a_qw, a_cb, a_v)
    _register_tile(sch, a_qw, a_cb, a_v)
    if copied:
        *_, t_qw, _, t_cb, t_v = sch.get_loops(tile)
        _register_tile(sch, t_qw, t_cb, t_v)
        sch.vectorize(v)
    else:
        _register_tile(sch, qw_inner, cb_inner, v, vector=stores_vectors(layout))
    initial = sch.decompose_reduction(accumulator, jd)
    *_, i_qw, _, i_cb, i_v = sch.get_loops(initial)
    _register_tile(sch, i_qw, i_cb, i_v)

    if layout.padded:
        _pad(sch, layout, None if order == "filters" else task)


def _pad(sch: s_tir.Schedule, layout: Layout, task: Any) -> None:
    """Pad the input of each task in the task, or the whole input, once, where `task` is None."""
    padded = sch.get_sblock("padded")
    if task is None:
        sch.parallel(sch.fuse(*sch.get_loops(padded)[:-2]))
    else:
        sch.compute_at(padded, task, preserve_unit_loops=True)
    sch.vectorize(sch.split(sch.get_loops(padded)[-1], [None, layout.lanes])[1])


def _register_tile(
    sch: s_tir.Schedule, positions: Any, channels: Any, lane: Any, *, vector: bool = True
) -> None:
    """Unroll a tile, so that LLVM keeps it in registers; lanes that stand apart in memory too."""
    sch.unroll(positions)
    sch.unroll(channels)
    if vector:
        sch.vectorize(lane)
    else:
        sch.unroll(lane)
