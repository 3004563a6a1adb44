"""The machine's ceilings in the form of a peer, so that they are measured among the layers' turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tvm_conv3dt.measure import load
from tvm_conv3dt.measure.load import Load
from tvm_conv3dt.measure.peers.problem import Problem, Started, Variant

__all__ = ["start", "started", "variants"]


def start(threads: int) -> Started:
    """Allocate what is copied and multiplied, once."""
    return started(threads, {})


def started(threads: int, more: Mapping[str, Load]) -> Started:
    """Return the peer, with what else is to be timed, by names that `Ceilings.of` knows."""
    pool = ThreadPoolExecutor(threads)
    always = variants({**load.loads(pool, threads), **more})

    def prepare(problem: Problem) -> Sequence[Variant]:
        return [*always, *variants(load.move(pool, threads, problem.workload))]

    return Started(np.__version__, prepare)


def variants(loads: Mapping[str, Load]) -> list[Variant]:
    """Return what is to be timed as variants: nothing to be checked."""
    # What one call does travels in the name: the sizes are this process's choice.
    return [Variant(f"{name}:{work}", "reused", run, None) for name, (run, work) in loads.items()]
