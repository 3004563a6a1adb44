"""A bundle in the form of a peer: what ``bench`` times it as, in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tvm_conv3dt import __version__, runtime
from tvm_conv3dt.cli.bundles import runner
from tvm_conv3dt.measure.peers.problem import Problem, Started, Variant
from tvm_conv3dt.measure.verify import verify

__all__ = ["start"]


def start(threads: int, folder: str, level: str) -> Started:
    """Load the bundle on that level, and set its threads."""
    runtime.set_num_threads(threads)
    bundle = runtime.load(folder, level=level)

    def prepare(problem: Problem) -> Sequence[Variant]:
        workload = problem.workload
        layer = bundle.layer(workload)
        verify(workload, runner(bundle, layer)).raise_if_failed()
        operator = bundle.operator(layer.name, problem.filters, problem.bias)
        out = operator.empty()
        return [
            Variant(
                workload.data_format, "reused", lambda: operator(problem.x, out=out), np.asarray
            ),
            Variant(workload.data_format, "fresh", lambda: operator(problem.x), np.asarray),
        ]

    return Started(__version__, prepare)
