"""One layer's figures beside its peers', and what all layers say together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tvm_conv3dt.measure.ceiling import Ceilings
from tvm_conv3dt.measure.peers import LESS_EXACT
from tvm_conv3dt.measure.peers.messages import Failure
from tvm_conv3dt.measure.timing import Timing
from tvm_conv3dt.spec import Workload

__all__ = ["BESIDE", "OURS", "Comparison", "Entry", "Summary", "summary", "workspace_bound"]

OURS = "tvm_conv3dt"
"""The bundle's name among the implementations."""

BESIDE = "beside"
"""That of another bundle of ours, of the same layers in another type: no peer."""


@dataclass(frozen=True)
class Entry:
    """One implementation's times in one layout.

    Attributes
    ----------
    implementation : str
        `OURS`, or one of the peers.
    layout : str
        How its arrays lie in memory.
    output : str
        ``"reused"`` where every call wrote to the same memory, ``"fresh"`` where each allocated its result.
    timing : Timing
        Of all its turns.
    """

    implementation: str
    layout: str
    output: str
    timing: Timing


@dataclass(frozen=True)
class Comparison:
    """One layer, timed.

    Attributes
    ----------
    name : str
        The layer's short name.
    workload : Workload
        What was computed.
    workspace_bytes : int
        What our kernel takes beside its arguments.
    entries : tuple of Entry
        Whatever has times.
    failures : mapping of str to Failure
        By implementation: why it has none; or by implementation and layout, where only that one has none.
    disturbed : bool
        Whether there are times among them that were taken while others had a part of the machine.
    """

    name: str
    workload: Workload
    workspace_bytes: int
    entries: tuple[Entry, ...]
    failures: Mapping[str, Failure]
    disturbed: bool = False

    def ours(self, output: str = "reused") -> Timing | None:
        """Return our times with that output; None where we failed."""
        found = [entry for entry in self._of(OURS) if entry.output == output]
        return found[0].timing if found else None

    def best(self, implementation: str) -> Entry | None:
        """Return an implementation's fastest layout by the median; None where it has no times.

        Of ours it is always the one whose output is reused.
        """
        found = self._of(implementation)
        if implementation in (OURS, BESIDE):
            found = [entry for entry in found if entry.output == "reused"]
        return min(found, key=_median, default=None)

    def best_peer(self, less_exact: bool = False) -> Entry | None:
        """Return the fastest of all peers' layouts; None where no peer has times.

        Peers that compute with less than the workload's dtype take part with `less_exact` only.
        """
        return min(self._peers(less_exact), key=_median, default=None)

    def speedup(self, output: str = "reused", less_exact: bool = False) -> float | None:
        """Return the best peer's time by ours with that output; None where either is missing."""
        ours, peer = self.ours(output), self.best_peer(less_exact)
        return None if ours is None or peer is None else peer.timing.median / ours.median

    def speedup_by_best(self) -> float | None:
        """Return the least time of any peer by our least with outputs reused; None where either is missing.

        On a machine that others use at times that is the better guess at what it would do alone.
        """
        ours = self.ours()
        least = min((each.timing.best for each in self._peers()), default=None)
        return None if ours is None or least is None else least / ours.best

    def beside_speedup(self) -> float | None:
        """Return the other bundle's time by ours, outputs reused; None where either is missing."""
        ours, beside = self.ours(), self.best(BESIDE)
        return None if ours is None or beside is None else beside.timing.median / ours.median

    def share(self, ceilings: Ceilings, output: str = "reused") -> float | None:
        """Return our speed as a share of the roofline's; None where we have no times."""
        ours = self.ours(output)
        return None if ours is None else ceilings.seconds(self.workload) / ours.median

    def _peers(self, less_exact: bool = False) -> list[Entry]:
        left_out = {OURS, BESIDE} if less_exact else {OURS, BESIDE, *LESS_EXACT}
        return [entry for entry in self.entries if entry.implementation not in left_out]

    def _of(self, implementation: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.implementation == implementation]


@dataclass(frozen=True)
class Summary:
    """What all layers say together; None where no layer has the figure.

    Attributes
    ----------
    speedup, fresh_speedup : float or None
        Geometric means of `Comparison.speedup`, our output's memory reused and fresh.
    least_speedup : tuple of (str, float) or None
        The layer where the former is least.
    speedup_by_best : float or None
        Geometric mean of `Comparison.speedup_by_best`.
    least_speedup_by_best : tuple of (str, float) or None
        The layer where it is least.
    share, fresh_share : float or None
        Geometric means of `Comparison.share`.
    over_workspace : tuple of str
        Layers whose workspace is above its bound.
    less_exact_speedup : float or None
        As `speedup`, with peers that compute with less than the workload's dtype; None where there is none of them.
    beside_speedup : float or None
        Geometric mean of `Comparison.beside_speedup`.
    least_beside_speedup : tuple of (str, float) or None
        The layer where it is least.
    """

    speedup: float | None
    fresh_speedup: float | None
    least_speedup: tuple[str, float] | None
    speedup_by_best: float | None
    least_speedup_by_best: tuple[str, float] | None
    share: float | None
    fresh_share: float | None
    over_workspace: tuple[str, ...]
    less_exact_speedup: float | None = None
    beside_speedup: float | None = None
    least_beside_speedup: tuple[str, float] | None = None


def summary(comparisons: Sequence[Comparison], ceilings: Ceilings) -> Summary:
    """Summarise layers; those that lack a figure do not count in it."""
    timed = {entry.implementation for each in comparisons for entry in each.entries}
    return Summary(
        speedup=_geometric_mean(each.speedup() for each in comparisons),
        fresh_speedup=_geometric_mean(each.speedup("fresh") for each in comparisons),
        least_speedup=_least((each.name, each.speedup()) for each in comparisons),
        speedup_by_best=_geometric_mean(each.speedup_by_best() for each in comparisons),
        least_speedup_by_best=_least((each.name, each.speedup_by_best()) for each in comparisons),
        share=_geometric_mean(each.share(ceilings) for each in comparisons),
        fresh_share=_geometric_mean(each.share(ceilings, "fresh") for each in comparisons),
        over_workspace=tuple(
            each.name
            for each in comparisons
            if each.workspace_bytes > workspace_bound(each.workload)
        ),
        less_exact_speedup=_geometric_mean(each.speedup(less_exact=True) for each in comparisons)
        if timed & LESS_EXACT
        else None,
        beside_speedup=_geometric_mean(each.beside_speedup() for each in comparisons),
        least_beside_speedup=_least((each.name, each.beside_speedup()) for each in comparisons),
    )


def workspace_bound(workload: Workload) -> int:
    """Return how many bytes of workspace a kernel should take at most: 1 MB, or 5 % of its output."""
    return max(1_000_000, math.prod(workload.output_shape) * workload.itemsize // 20)


def _geometric_mean(values: Iterable[float | None]) -> float | None:
    logarithms = [math.log(value) for value in values if value is not None]
    return math.exp(math.fsum(logarithms) / len(logarithms)) if logarithms else None


def _least(values: Iterable[tuple[str, float | None]]) -> tuple[str, float] | None:
    found = [(name, value) for name, value in values if value is not None]
    return min(found, key=lambda pair: pair[1], default=None)


def _median(entry: Entry) -> float:
    return entry.timing.median
