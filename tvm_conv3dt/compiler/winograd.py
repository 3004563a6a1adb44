"""Winograd's minimal filtering along one axis: two neighbouring results from fewer products than taps ask for.

Two results of a phase with ``t`` taps read ``t + 1`` neighbouring inputs ``d`` and take ``2 * t`` products with its taps ``g``; the
algorithm F(2, t) takes ``t + 1``, of sums of inputs with sums of taps, and adds these up (S. Winograd, *Arithmetic Complexity of
Computations*, 1980; for networks A. Lavin and S. Gray, *Fast Algorithms for Convolutional Neural Networks*, 2016)::

    F(2, 2)    y0 = m0 + m1         m0 = (d0 - d1) * g0        m1 = d1 * (g0 + g1)               m2 = (d2 - d1) * g1
               y1 = m1 + m2
    F(2, 3)    y0 = m0 + m1 + m2    m0 = (d0 - d2) * g0        m1 = (d1 + d2) * (g0 + g1 + g2) / 2
               y1 = m1 - m2 - m3    m3 = (d1 - d3) * g2        m2 = (d2 - d1) * (g0 - g1 + g2) / 2

All factors are 1, -1 and 1/2, so integers stay exact. A result is a sum of products of the inputs that it reads, and of no others.
Of more axes each has its own; the products are those of every combination.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tvm_conv3dt.phases import Axis

__all__ = ["MOST_TAPS", "Filtering", "Form"]

Form = dict[int, float]
"""A sum of neighbours: by the number of each its factor."""

MOST_TAPS = 3
"""Of a phase. More of them take factors that cost exactness."""

# By the number of taps: sums of inputs, sums of taps, and sums of products.
_INPUTS: dict[int, list[Form]] = {
    1: [{0: 1}, {1: 1}],
    2: [{0: 1, 1: -1}, {1: 1}, {2: 1, 1: -1}],
    3: [{0: 1, 2: -1}, {1: 1, 2: 1}, {2: 1, 1: -1}, {1: 1, 3: -1}],
}
_TAPS: dict[int, list[Form]] = {
    1: [{0: 1}, {0: 1}],
    2: [{0: 1}, {0: 1, 1: 1}, {1: 1}],
    3: [{0: 1}, {0: 0.5, 1: 0.5, 2: 0.5}, {0: 0.5, 1: -0.5, 2: 0.5}, {2: 1}],
}
_RESULTS: dict[int, list[Form]] = {
    1: [{0: 1}, {1: 1}],
    2: [{0: 1, 1: 1}, {1: 1, 2: 1}],
    3: [{0: 1, 1: 1, 2: 1}, {1: 1, 2: -1, 3: -1}],
}


@dataclass(frozen=True)
class Filtering:
    """How the results of an axis are made.

    Attributes
    ----------
    axis : Axis
        Without dilation.
    results : int
        Neighbouring results of a phase that are made together: 2, or 1 where that saves nothing.
    """

    axis: Axis
    results: int

    @classmethod
    def of(cls, axis: Axis) -> Filtering:
        """Make the one with the fewest products."""
        pair, single = cls(axis, 2), cls(axis, 1)
        fits = all(1 <= axis.phase_taps(r) <= MOST_TAPS for r in range(axis.phases))
        return pair if fits and pair.products < single.products else single

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

    def first_tap(self, phase: int) -> int:
        """Return the tap of that input; the next one's is `Axis.tap_step` less."""
        last = self.axis.phase_taps(phase) - 1
        return int(self.axis.first_tap(phase)) + last * self.axis.tap_step

    def input_forms(self, phase: int) -> list[Form]:
        """Return the sums of inputs, one for each product."""
        taps = self.axis.phase_taps(phase)
        return _INPUTS[taps] if self.results > 1 else [{j: 1} for j in range(taps)]

    def tap_forms(self, phase: int) -> list[Form]:
        """Return the sums of taps, in the order of inputs, one for each product."""
        taps = self.axis.phase_taps(phase)
        return _TAPS[taps] if self.results > 1 else [{j: 1} for j in range(taps)]

    def result_forms(self, phase: int) -> list[Form]:
        """Return the sums of products, one for each result."""
        taps = self.axis.phase_taps(phase)
        return _RESULTS[taps] if self.results > 1 else [dict.fromkeys(range(taps), 1.0)]
