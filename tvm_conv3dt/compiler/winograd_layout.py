"""How a workload is laid out for Winograd's filtering: tasks of groups of results, and filters that are sums of taps.

See `tvm_conv3dt.compiler.winograd` for the arithmetic of an axis. Each *point*, a product of every combination of axes, is a matrix product
of its own: of the task's groups, and input channels, with its filters. A task has some groups of height and width, all of one plane.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.winograd import Filtering
from tvm_conv3dt.spec import Workload

__all__ = ["WINOGRAD", "WinogradLayout"]

WINOGRAD = "winograd-"
"""What the names of these formulations begin with."""

_PATTERN = re.compile(rf"{WINOGRAD}(\d+)x(\d+)x(\d+)-(\d+)x(\d+)")
_MOST_COPIES = 8
_LEAST_LANES = 4


@dataclass(frozen=True)
class WinogradLayout(Layout):
    """A workload with the groups of its tasks.

    Attributes
    ----------
    workload, lanes, formulation
        As those of `Layout`; no phases are folded.
    results : tuple of int
        Neighbouring results that make a group, along depth, height and width.
    task_rows, task_columns : int
        Groups of height and width that a task has.
    """

    results: tuple[int, int, int] = (1, 1, 1)
    task_rows: int = 1
    task_columns: int = 1

    @classmethod
    def parse(cls, workload: Workload, lanes: int, name: str) -> WinogradLayout:
        """Make the layout of a `name` for a device's `lanes`; another text raises `ValueError`, as does one that saves no products."""
        error = ValueError(f"formulation {name} is none of Winograd's for {workload.id}")
        match = _PATTERN.fullmatch(name)
        if match is None:
            raise error
        depth, height, width, rows, columns = map(int, match.groups())
        found = cls(
            workload,
            cls.lanes_of(workload, lanes),
            results=(depth, height, width),
            task_rows=rows,
            task_columns=columns,
        )
        saves = all(each in Filtering.choices(each.axis) for each in found.filterings)
        if not saves or max(found.results) == 1:
            raise error
        return found

    @staticmethod
    def lanes_of(workload: Workload, lanes: int) -> int:
        """Return how many lanes of a device's vectors are used: all, or half where output channels do not fill them."""
        return lanes if workload.out_channels >= lanes else max(lanes // 2, _LEAST_LANES)

    @classmethod
    def choices(cls, workload: Workload, lanes: int) -> list[WinogradLayout]:
        """Make those, with tasks of one group, that save products of float32; the one that saves most comes first.

        There are none where output channels do not fill half a vector of a device's `lanes`, or input channels one of `lanes_of`,
        where rows are turned, and where it would be too much code.
        """
        lanes = cls.lanes_of(workload, lanes)
        layout = cls(workload, lanes)
        fits = (
            workload.dtype == "float32"
            and workload.precision is None
            and all(axis.dilation == 1 for axis in layout.axes)
            and all(axis.reached(r) for axis in layout.axes for r in range(axis.phases))
            and min(workload.in_channels, workload.out_channels) >= lanes
            and not layout.turns_rows
            and layout.copies <= _MOST_COPIES
        )
        if not fits:
            return []
        combinations = list(product(*map(Filtering.choices, layout.axes)))[1:]
        combinations.sort(key=lambda each: prod(one.products for one in each))
        return [
            cls(workload, lanes, results=(depth.results, height.results, width.results))
            for depth, height, width in combinations
        ]

    @cached_property
    def name(self) -> str:
        """The formulation as schedules tell it: ``"winograd-2x3x3-1x8"``, of results and of the groups of a task."""
        return f"{WINOGRAD}{'x'.join(map(str, self.results))}-{self.task_rows}x{self.task_columns}"

    @cached_property
    def filterings(self) -> tuple[Filtering, Filtering, Filtering]:
        """Those of depth, height and width."""
        depth, height, width = map(Filtering, self.axes, self.results)
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
    def in_blocks(self) -> int:
        """Vectors that the input channels of a position take; the last two may have some channels in common."""
        return -(-self.workload.in_channels // self.lanes)

    @property
    def copied_channels(self) -> int:
        """Input channels of a position as copies have them, in whole vectors."""
        return self.in_blocks * self.lanes

    @property
    def padded(self) -> bool:
        """Whether the rows of the input are copied: always, with the zeros around them."""
        return True

    @property
    def unrolled(self) -> bool:
        """Whether LLVM may write out turns of loops: of those over points each is a register tile, again and again."""
        return False

    @cached_property
    def filters(self) -> tuple[int, int, int]:
        """Sums of taps along depth, height and width, those of all phases."""
        depth, height, width = (len(each.filters) for each in self.filterings)
        return depth, height, width

    @cached_property
    def packed_shape(self) -> tuple[int, ...]:
        """Shape of the packed filters: ``[blocks, sums of taps and taps, in_channels, lanes]``.

        The taps are for inputs of which no sums can be made, see `tvm_conv3dt.compiler.large_inputs`.
        """
        filters = prod(self.filters) + prod(axis.kernel for axis in self.axes)
        return self.blocks, filters, self.workload.in_channels, self.lanes
