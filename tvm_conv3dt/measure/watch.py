"""Watches the machine while it is measured: a shared one does not give all that it has at every moment."""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["ENOUGH", "Turns", "Watch"]

ENOUGH = 0.8
"""Of the best rate seen lately: less means that others have a part of the machine. Clocks vary by less, neighbours halve it."""

# Probes before the first turn, so that there is a best rate to compare with.
_FIRST = 40
# Seconds after which a rate is forgotten: a CPU that was cool at first is not seen as disturbed for ever.
_LATELY = 600.0
# Seconds for which a probe stands: one between two turns is that after the first and that before the second.
_STANDS = 0.05
# Seconds between two probes of a machine that is disturbed.
_PAUSE = 0.02

_Answer = TypeVar("_Answer")


@dataclass
class Turns:
    """What became of the turns that were watched.

    Attributes
    ----------
    taken : int
        All of them.
    dropped : int
        That were disturbed, and do not count.
    disturbed : int
        That were disturbed, and count nevertheless: there were not enough of others.
    """

    taken: int = 0
    dropped: int = 0
    disturbed: int = 0


class Watch:
    """Repeats what the machine was disturbed in, by comparing what it can do now with the best that it could do lately.

    Parameters
    ----------
    probe : callable
        Measures for a moment, and returns rates by name, higher being better; nothing where there is nothing to measure,
        and then no moment is a disturbed one.
    seconds : float
        How long turns may be waited for and taken again, in all, from every `renew` on.

    Attributes
    ----------
    taken, quiet : int
        How many turns were taken, and how many of them were not disturbed.
    """

    def __init__(self, probe: Callable[[], Mapping[str, float]], seconds: float) -> None:
        self.taken = self.quiet = 0
        self._probe = probe
        # Time and rate of probes that were better than all later ones, so that the first is the best.
        self._seen: defaultdict[str, deque[tuple[float, float]]] = defaultdict(deque)
        self._quiet_until = -math.inf
        self._seconds = self._left = seconds

    def renew(self) -> None:
        """Have all patience again, and probe before the next turn."""
        self._left = self._seconds
        self._quiet_until = -math.inf

    def take(
        self, turn: Callable[[], _Answer], final: Callable[[_Answer], bool] = lambda answer: False
    ) -> tuple[_Answer, bool]:
        """Take a turn in a moment that is quiet before and after it, or as it is where half the patience has gone by.

        Parameters
        ----------
        turn : callable
            Does it, and returns its answer.
        final : callable, optional
            Says of an answer whether it stands, however disturbed the machine was.

        Returns
        -------
        tuple of (answer, bool)
            What the turn returned, and whether the moment was quiet or the answer stands anyhow.
        """
        if not self._seen:
            for _ in range(_FIRST):
                self._quiet()
        kept = self._left / 2  # no turn, of whomever, takes the patience of all others
        while True:
            quiet = self._wait(kept)
            start = time.monotonic()
            answer = turn()
            self.taken += 1
            if final(answer) or (quiet and self._quiet()):
                self.quiet += 1
                return answer, True
            if self._left <= kept:
                return answer, False
            self._left -= time.monotonic() - start

    def _wait(self, kept: float) -> bool:
        """Wait for a quiet moment, while there is more patience than what is `kept`; return whether it came."""
        start = time.monotonic()
        if start < self._quiet_until:
            return True
        while not (quiet := self._quiet()) and time.monotonic() - start < self._left - kept:
            time.sleep(_PAUSE)
        self._left -= time.monotonic() - start
        return quiet

    def _quiet(self) -> bool:
        rates, now = self._probe(), time.monotonic()
        best = {name: self._best(name, rate, now) for name, rate in rates.items()}
        quiet = all(rate >= ENOUGH * best[name] for name, rate in rates.items())
        self._quiet_until = now + _STANDS if quiet else -math.inf
        return quiet

    def _best(self, name: str, rate: float, now: float) -> float:
        """Return the best rate lately, this one counted in."""
        seen = self._seen[name]
        while seen and seen[-1][1] <= rate:
            seen.pop()
        seen.append((now, rate))
        while seen[0][0] < now - _LATELY:
            seen.popleft()
        return seen[0][1]
