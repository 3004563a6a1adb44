"""How a workload is laid out for Winograd's filtering: tasks of groups of results, and filters that are sums of taps.

See `tvm_conv3dt.compiler.winograd` for the arithmetic of an axis. Each *point*, a product of every combination of axes, is a matrix product
of its own: of the task's groups, and input channels, with its filters. A task has some groups of height and width, all of one plane.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from math import prod

from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.winograd import Filtering
from tvm_conv3dt.spec import Workload

__all__ = ["WINOGRAD", "WinogradLayout"]

WINOGRAD = "winograd-"
"""What the names of these formulations begin with."""

_PATTERN = re.compile(rf"{WINOGRAD}(\d+)x(\d+)")
_MOST_COPIES = 8


@dataclass(frozen=True)
class WinogradLayout(Layout):
    """A workload with the groups of its tasks.

    Attributes
    ----------
    workload, lanes, formulation
        As those of `Layout`; no phases are folded.
    task_rows, task_columns : int
        Groups of height and width that a task has.
    """

    task_rows: int = 1
    task_columns: int = 1

    @classmethod
    def parse(cls, workload: Workload, lanes: int, name: str) -> WinogradLayout:
        """Make the layout of a `name`; another text raises `ValueError`."""
        match = _PATTERN.fullmatch(name)
        if match is None:
            raise ValueError(f"formulation {name} is none of Winograd's")
        rows, columns = map(int, match.groups())
        return cls(workload, lanes, task_rows=rows, task_columns=columns)

    @classmethod
    def fits(cls, workload: Workload, lanes: int) -> bool:
        """Whether it saves products of float32: where channels fill vectors, no row is turned, and it is not too much code."""
        layout = cls(workload, lanes)
        return (
            workload.dtype == workload.product_dtype == "float32"
            and all(axis.dilation == 1 for axis in layout.axes)
            and all(axis.reached(r) for axis in layout.axes for r in range(axis.phases))
            and workload.in_channels % lanes == 0
            and workload.out_channels >= lanes
            and not layout.turns_rows
            and any(each.results > 1 for each in layout.filterings)
            and layout.copies <= _MOST_COPIES
        )

    @cached_property
    def name(self) -> str:
        """The formulation as schedules tell it: ``"winograd-2x8"``."""
        return f"{WINOGRAD}{self.task_rows}x{self.task_columns}"

    @cached_property
    def filterings(self) -> tuple[Filtering, Filtering, Filtering]:
        """Those of depth, height and width."""
        depth, height, width = map(Filtering.of, self.axes)
        return depth, height, width

    @property
    def copies(self) -> int:
        """Phases that have code of their own, since they have different numbers of taps."""
        return prod(axis.phases for axis in self.axes if not axis.uniform)

    @property
    def task_groups(self) -> int:
        """Groups of results of a phase that a task has."""
        return self.task_rows * self.task_columns

    @cached_property
    def tasks(self) -> tuple[int, int, int]:
        """Tasks along depth, height and width; the last may reach past the end."""
        depth, height, width = (each.tiles for each in self.filterings)
        return depth, -(-height // self.task_rows), -(-width // self.task_columns)

    @property
    def rows(self) -> int:
        """Positions of the height, those counted in that lie past its end."""
        return self.tasks[1] * self.task_rows * self.filterings[1].results

    @cached_property
    def points(self) -> tuple[int, int, int]:
        """Points along depth, height and width, the most of any phase."""
        depth, height, width = (each.points for each in self.filterings)
        return depth, height, width

    @cached_property
    def starts(self) -> tuple[int, int, int]:
        """The first input position that any phase reads, for each axis: copies begin there."""
        depth, height, width = (
            min(each.first_input(r) for r in range(each.axis.phases)) for each in self.filterings
        )
        return depth, height, width

    @cached_property
    def spans(self) -> tuple[int, int, int]:
        """Input positions that one group of all phases reads, for each axis."""
        depth, height, width = (
            max(each.first_input(r) + each.points_of(r) for r in range(each.axis.phases)) - start
            for each, start in zip(self.filterings, self.starts, strict=True)
        )
        return depth, height, width

    @cached_property
    def products(self) -> int:
        """Points of all phases: products of an input and an output channel, for one group."""
        return prod(
            sum(each.points_of(r) for r in range(each.axis.phases)) for each in self.filterings
        )

    @cached_property
    def copied_positions(self) -> int:
        """Input positions that a task reads and copies."""
        groups = (1, self.task_rows, self.task_columns)
        return prod(
            (count - 1) * each.results + span
            for each, span, count in zip(self.filterings, self.spans, groups, strict=True)
        )

    @property
    def padded(self) -> bool:
        """Whether the rows of the input are copied: always, with the zeros around them."""
        return True

    @property
    def unrolled(self) -> bool:
        """Whether LLVM may write out turns of loops: of those over points each is a register tile, again and again."""
        return False

    @cached_property
    def packed_shape(self) -> tuple[int, ...]:
        """Shape of the packed filters: ``[rd, rh, rw, blocks, points and taps, in_channels, lanes]``.

        The taps are for inputs of which no sums can be made, see `tvm_conv3dt.compiler.large_inputs`.
        """
        filters = prod(self.points) + prod(self.taps)
        return (*self.phases, self.blocks, filters, self.workload.in_channels, self.lanes)
