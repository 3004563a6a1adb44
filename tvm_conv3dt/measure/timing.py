"""Times of callables, taken in turns, so that a machine that slows down slows all of them."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["REST_TIMEOUT", "Timing", "interleave", "rest", "turn"]

_SHORTEST_SAMPLE = 1e-3
"""Seconds; faster callables are called several times for one sample, so that the clock does not show."""

REST_TIMEOUT = 5.0
"""Seconds that `rest` waits. Thread pools spin for a while after their work, most for some milliseconds."""
_REST_LOOK = 0.01


@dataclass(frozen=True)
class Timing:
    """What one callable took per call, in seconds.

    Attributes
    ----------
    median, q1, q3 : float
        The three quartiles of the samples.
    best : float
        The shortest sample.
    count : int
        How many samples there are.
    """

    median: float
    q1: float
    q3: float
    best: float
    count: int

    @classmethod
    def of(cls, samples: list[float]) -> Timing:
        """Summarise at least one sample."""
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0], samples[0], 1)
        q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, q1, q3, min(samples), len(samples))

    @property
    def spread(self) -> float:
        """The distance of the quartiles as a share of the median."""
        return (self.q3 - self.q1) / self.median if self.median else 0.0


def interleave(
    functions: Mapping[str, Callable[[], object]], seconds: float, min_rounds: int = 5
) -> dict[str, Timing]:
    """Time callables in turns.

    Each is called once to warm up. Then rounds follow, in which each gives one sample, in an order that
    turns by one per round, until the time is over. Python's garbage collection rests meanwhile.

    Parameters
    ----------
    functions : mapping of str to callable
        What to time, without arguments; the results are dropped.
    seconds : float
        For all of them together.
    min_rounds : int
        At least this many rounds, however long they take.

    Returns
    -------
    dict of str to Timing
        In the order of `functions`.
    """
    names = list(functions)
    repeats = {name: _repeats(functions[name]) for name in names}
    samples: dict[str, list[float]] = {name: [] for name in names}
    collects = gc.isenabled()
    gc.disable()
    try:
        end = time.perf_counter() + seconds
        rounds = 0
        while names and (rounds < max(1, min_rounds) or time.perf_counter() < end):
            turn = rounds % len(names)
            for name in names[turn:] + names[:turn]:
                samples[name].append(_sample(functions[name], repeats[name]))
            rounds += 1
    finally:
        if collects:
            gc.enable()
    return {name: Timing.of(samples[name]) for name in names}


def turn(
    function: Callable[[], object], seconds: float, wait: Callable[[], object] | None = None
) -> list[float]:
    """Time one callable for a while, as one of several that take turns in processes of their own.

    It is called once to wake its threads and fill the caches, which whoever ran before has taken. Python's
    garbage collection rests meanwhile.

    Parameters
    ----------
    function : callable
        What to time, without arguments; the results are dropped.
    seconds : float
        About how long; there is at least one sample.
    wait : callable, optional
        Waits for calls that are only queued when they return, and is called at the end of each sample.

    Returns
    -------
    list of float
        Seconds per call, of every sample.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        _sample(function, 1, wait)
        end = time.perf_counter() + seconds
        first = _sample(function, 1, wait)
        repeats = _repeats_of(first)
        samples = [first] if repeats == 1 else [_sample(function, repeats, wait)]
        while time.perf_counter() < end:
            samples.append(_sample(function, repeats, wait))
    finally:
        if collects:
            gc.enable()
    return samples


def rest() -> bool:
    """Wait until no thread of this process works; return whether that came to be."""
    end = time.monotonic() + REST_TIMEOUT
    while time.monotonic() < end:
        used = time.process_time()  # of all threads
        time.sleep(_REST_LOOK)
        if time.process_time() - used < _REST_LOOK / 5:
            return True
    return False


def _repeats(function: Callable[[], object]) -> int:
    function()
    return _repeats_of(_sample(function, 1))


def _repeats_of(seconds: float) -> int:
    return max(1, math.ceil(_SHORTEST_SAMPLE / max(seconds, 1e-7)))


def _sample(
    function: Callable[[], object], repeats: int, wait: Callable[[], object] | None = None
) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    if wait is not None:
        wait()
    return (time.perf_counter() - start) / repeats
