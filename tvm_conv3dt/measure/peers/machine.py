"""The machine's ceilings in the form of a peer, so that they are measured among the layers' turns."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tvm_conv3dt.measure import ceiling
from tvm_conv3dt.measure.peers.problem import Problem, Started, Variant

__all__ = ["start"]


def start(threads: int) -> Started:
    """Allocate what is copied and multiplied, once."""
    loads = ceiling.loads(ThreadPoolExecutor(threads), threads)
    # What one call does travels in the name: the sizes are this process's choice.
    variants = [
        Variant(f"{name}:{work}", "reused", run, None) for name, (run, work) in loads.items()
    ]

    def prepare(problem: Problem) -> Sequence[Variant]:
        return variants

    return Started(np.__version__, prepare)
