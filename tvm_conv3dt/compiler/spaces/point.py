"""One point of a design space, and how a trace tells it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from tvm import s_tir

__all__ = [
    "AnyFamily",
    "AnyPoint",
    "Choose",
    "Decide",
    "Family",
    "GpuFamily",
    "GpuPoint",
    "Point",
    "decider",
    "formulations_in",
    "keep",
    "mark",
    "point_of",
]

Choose = Callable[[str, list[int]], int | None]
"""Gives the index of a candidate for the decision of a name, or None: then it is sampled."""

Decide = Callable[[str, list[int]], Any]
"""Makes a decision in a schedule, by its name, among candidates."""

# Names formulation and loop order in a trace, where all other decisions are samples.
_MARK = "conv3d_transpose"


class Family(NamedTuple):
    """The structural choices: one MetaSchedule design space each.

    Attributes
    ----------
    order : str
        Of the loops around the register tile.
    vectors, tile_h : int
        Vectors and rows of the register tile.
    """

    order: str
    vectors: int
    tile_h: int = 1


@dataclass(frozen=True)
class Point:
    """One point of the space: every decision made.

    Attributes
    ----------
    formulation : str
        See `tvm_conv3dt.compiler.layout` and `tvm_conv3dt.compiler.dot_layout`.
    order : str
        Of the loops around the register tile.
    vectors, tile_h, tile_w : int
        Vectors, rows and positions of a row of the register tile.
    stream : int
        Whether stores pass by the caches: 1 or 0.
    task_h : int
        Rows of tiles that one task takes, where a task is one of rows; for a matrix unit tiles of a plane.
    task_d : int
        Planes that one task takes: more than one only for a matrix unit.
    """

    formulation: str
    order: str
    vectors: int
    tile_h: int = 1
    tile_w: int = 1
    stream: int = 0
    task_h: int = 1
    task_d: int = 1

    @property
    def family(self) -> Family:
        """The structural choices."""
        return Family(self.order, self.vectors, self.tile_h)

    def choose(self, name: str, candidates: list[int]) -> int:
        """Return which of `candidates` this point has for the decision `name`."""
        return candidates.index(getattr(self, name))


class GpuFamily(NamedTuple):
    """The structural choices for GPUs.

    Attributes
    ----------
    order : str
        ``"threads"``, or ``"warps"`` where these together use tensor cores.
    rows, columns : int
        Positions and channels of one thread's, or one warp's, results.
    """

    order: str
    rows: int
    columns: int


@dataclass(frozen=True)
class GpuPoint:
    """One point of a space for GPUs.

    Attributes
    ----------
    formulation : str
        See `tvm_conv3dt.compiler.gemm_layout`: it has the sizes of the tile of a block of threads.
    order, rows, columns
        See `GpuFamily`.
    unroll : int
        Input channels whose products are written one after the other.
    """

    formulation: str
    order: str
    rows: int
    columns: int
    unroll: int = 1

    @property
    def family(self) -> GpuFamily:
        """The structural choices."""
        return GpuFamily(self.order, self.rows, self.columns)

    def choose(self, name: str, candidates: list[int]) -> int:
        """Return which of `candidates` this point has for the decision `name`."""
        return candidates.index(getattr(self, name))


AnyPoint: TypeAlias = Point | GpuPoint
AnyFamily: TypeAlias = Family | GpuFamily


def decider(sch: s_tir.Schedule, choose: Choose) -> Decide:
    """Return what makes decisions in `sch` as `choose` says."""

    def decide(name: str, candidates: list[int]) -> Any:
        uniform = [1 / len(candidates)] * len(candidates)
        return sch.sample_categorical(candidates, uniform, decision=choose(name, candidates))

    return decide


def mark(sch: s_tir.Schedule, block: Any, formulation: str, order: str) -> None:
    """Write in the trace what is no sample."""
    sch.annotate(block, f"{_MARK}:{formulation}:{order}", 1)


def formulations_in(traces: str) -> set[str]:
    """Return the formulations that marks name in a text of traces."""
    return set(re.findall(rf'"{_MARK}:([^:"]+):', traces))


def keep(sch: s_tir.Schedule, block: Any, name: str, value: Any) -> None:
    """Write a decision that nothing else uses in the schedule: a search forgets those that have no effect."""
    sch.annotate(block, f"{_MARK}.{name}", value)


def point_of(trace: s_tir.schedule.Trace) -> AnyPoint:
    """Return the decisions that a trace of a design space holds."""
    marks = [str(inst.attrs[0]) for inst in trace.insts if inst.kind.name == "Annotate"]
    _, formulation, order = next(m for m in marks if m.startswith(_MARK)).split(":")
    samples = [
        int(inst.attrs[0][int(trace.get_decision(inst))])
        for inst in trace.insts
        if inst.kind.name == "SampleCategorical"
    ]
    kind = GpuPoint if formulation.startswith(("gemm-", "wmma-")) else Point
    return kind(formulation, order, *samples)
