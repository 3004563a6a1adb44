"""Winograd's minimal filtering along one axis: neighbouring results from fewer products than taps ask for.

``m`` results of a phase with ``t`` taps read ``m + t - 1`` neighbouring inputs ``d`` and take ``m * t`` products with its taps ``g``; the
algorithm F(m, t) takes ``m + t - 1``, of sums of inputs with sums of taps, and adds these up (S. Winograd, *Arithmetic Complexity of
Computations*, 1980; for networks A. Lavin and S. Gray, *Fast Algorithms for Convolutional Neural Networks*, 2016)::

    F(2, 2)    y0 = m0 + m1         m0 = (d0 - d1) * g0        m1 = d1 * (g0 + g1)               m2 = (d2 - d1) * g1
               y1 = m1 + m2
    F(2, 3)    y0 = m0 + m1 + m2    m0 = (d0 - d2) * g0        m1 = (d1 + d2) * (g0 + g1 + g2) / 2
               y1 = m1 - m2 - m3    m3 = (d1 - d3) * g2        m2 = (d2 - d1) * (g0 - g1 + g2) / 2
    F(3, 2)    y0 = m0 + m1 + m2    m0 = (d0 - d2) * g0        m1 = (d1 + d2) * (g0 + g1) / 2
               y1 = m1 - m2         m3 = (d1 - d3) * g1        m2 = (d2 - d1) * (g0 - g1) / 2
               y2 = m1 + m2 - m3

All factors are 1, -1 and 1/2, so integers stay exact. Of more axes each has its own; the products are those of every combination.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from tvm_conv3dt.phases import Axis

__all__ = ["Filtering", "Form"]

Form = dict[int, float]
"""A sum of neighbours: by the number of each its factor."""

_MOST_RESULTS = 3
_MOST_POINTS = 4  # more of them take factors that cost exactness: thirds

# Of more results than one, by the number of products: sums of inputs.
_INPUTS: dict[int, list[Form]] = {
    3: [{0: 1, 1: -1}, {1: 1}, {2: 1, 1: -1}],
    4: [{0: 1, 2: -1}, {1: 1, 2: 1}, {2: 1, 1: -1}, {1: 1, 3: -1}],
}
# By the numbers of results and of taps: sums of taps, and sums of products.
_TAPS: dict[tuple[int, int], list[Form]] = {
    (2, 2): [{0: 1}, {0: 1, 1: 1}, {1: 1}],
    (2, 3): [{0: 1}, {0: 0.5, 1: 0.5, 2: 0.5}, {0: 0.5, 1: -0.5, 2: 0.5}, {2: 1}],
    (3, 2): [{0: 1}, {0: 0.5, 1: 0.5}, {0: 0.5, 1: -0.5}, {1: 1}],
}
_RESULTS: dict[tuple[int, int], list[Form]] = {
    (2, 2): [{0: 1, 1: 1}, {1: 1, 2: 1}],
    (2, 3): [{0: 1, 1: 1, 2: 1}, {1: 1, 2: -1, 3: -1}],
    (3, 2): [{0: 1, 1: 1, 2: 1}, {1: 1, 2: -1}, {1: 1, 2: 1, 3: -1}],
}


@dataclass(frozen=True)
class Filtering:
    """How the results of an axis are made.

    Attributes
    ----------
    axis : Axis
        Without dilation, and with taps in every phase.
    results : int
        Neighbouring results of a phase that are made together: 1, which takes a product for each tap, to 3.
    """

    axis: Axis
    results: int

    @classmethod
    def choices(cls, axis: Axis) -> list[Filtering]:
        """Make those of which each has fewer products than all before it; the first has one result."""
        found = [cls(axis, 1)]
        for results in range(2, _MOST_RESULTS + 1):
            one = cls(axis, results)
            fits = all(one.points_of(r) <= _MOST_POINTS for r in range(axis.phases))
            if fits and one.products < found[-1].products:
                found.append(one)
        return found

    @property
    def products(self) -> int:
        """Products of all results, of all phases."""
        return self.tiles * sum(self.points_of(r) for r in range(self.axis.phases))

    @property
    def tiles(self) -> int:
        """Groups of results of a phase; the last may reach past the end."""
        return -(-self.axis.quotients // self.results)

    def points_of(self, phase: int) -> int:
        """Return the products of a group of results of a phase; so many inputs are read, too."""
        return self.axis.phase_taps(phase) + self.results - 1

    @cached_property
    def points(self) -> int:
        """The most that a phase has."""
        return self.axis.taps + self.results - 1

    def first_input(self, phase: int) -> int:
        """Return the first input position that group 0 reads; it may lie before the input."""
        return int(self.axis.first_input(phase)) - (self.axis.phase_taps(phase) - 1)

    def tap_numbers(self, phase: int) -> list[int]:
        """Return which of the kernel's taps those of a phase are, in the order of inputs."""
        count = self.axis.phase_taps(phase)
        first = int(self.axis.first_tap(phase))
        return [first + j * self.axis.tap_step for j in reversed(range(count))]

    def input_forms(self, phase: int) -> list[Form]:
        """Return the sums of inputs, one for each product."""
        points = self.points_of(phase)
        return [{j: 1} for j in range(points)] if self._plain(phase) else _INPUTS[points]

    def tap_forms(self, phase: int) -> list[Form]:
        """Return the different sums of taps, in the order of inputs; see `shares_tap`."""
        taps = self.axis.phase_taps(phase)
        return [{j: 1} for j in range(taps)] if self._plain(phase) else _TAPS[self.results, taps]

    def shares_tap(self, phase: int) -> bool:
        """Whether all products of a phase have the same sum of taps, its single one; else each has its own."""
        return self.axis.phase_taps(phase) == 1

    def result_forms(self, phase: int) -> list[Form]:
        """Return the sums of products, one for each result."""
        taps = self.axis.phase_taps(phase)
        if not self._plain(phase):
            return _RESULTS[self.results, taps]
        return [dict.fromkeys(range(m, m + taps), 1.0) for m in range(self.results)]

    def _plain(self, phase: int) -> bool:
        """Whether a phase has a product for each result and tap."""
        return self.results == 1 or self.shares_tap(phase)

    @cached_property
    def filters(self) -> list[Form]:
        """The sums of the kernel's taps that all phases have, one after the other."""
        return list(self._filters())

    def _filters(self) -> Iterator[Form]:
        for r in range(self.axis.phases):
            numbers = self.tap_numbers(r)
            for form in self.tap_forms(r):
                yield {numbers[j]: factor for j, factor in form.items()}

    @cached_property
    def first_filters(self) -> list[int]:
        """Where in `filters` those of each phase begin."""
        counts = [len(self.tap_forms(r)) for r in range(self.axis.phases)]
        return list(accumulate(counts[:-1], initial=0))
