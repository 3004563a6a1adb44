"""A bundle in the form of a peer: what ``bench`` times it as, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

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
        x, out = operator.upload(problem.x), operator.empty()

        def reused() -> Any:
            operator(x, out=out)
            return out

        def variant(output: Literal["fresh", "reused"], run: Callable[[], Any]) -> Variant:
            return Variant(
                workload.data_format, output, run, operator.download, operator.synchronize
            )

        return [variant("reused", reused), variant("fresh", lambda: operator(x))]

    return Started(__version__, prepare)
