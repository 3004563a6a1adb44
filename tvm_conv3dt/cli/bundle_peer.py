"""A bundle in the form of a peer: what ``bench`` times it as, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from tvm_conv3dt import __version__, runtime
from tvm_conv3dt.cli.bundles import runner
from tvm_conv3dt.manifest import Layer
from tvm_conv3dt.measure.peers.problem import HALF_TOLERANCE, HALVES, Problem, Started, Variant
from tvm_conv3dt.measure.verify import verify
from tvm_conv3dt.runtime import Bundle
from tvm_conv3dt.spec import Workload

__all__ = ["start"]


def start(threads: int, folder: str, level: str) -> Started:
    """Load the bundle on that level, and set its threads.

    A layer that the bundle has in another type only is computed in that, of the same values.
    """
    runtime.set_num_threads(threads)
    bundle = runtime.load(folder, level=level)

    def prepare(asked: Problem) -> Sequence[Variant]:
        layer = _layer(bundle, asked.workload)
        workload = layer.workload
        problem = replace(asked.cast(workload.dtype), workload=workload)
        # What the results are compared with may be of a wider type.
        rounded = workload.product_dtype in HALVES
        dtype = asked.workload.numpy_dtype
        verify(workload, runner(bundle, layer)).raise_if_failed()
        operator = bundle.operator(layer.name, problem.filters, problem.bias)
        x, out = operator.upload(problem.x), operator.empty()
        same = workload == asked.workload
        layout = workload.data_format + ("" if same else f" {workload.dtype}")

        def reused() -> Any:
            operator(x, out=out)
            return out

        held = None

        def fresh() -> Any:
            # The last result is still there when the next is made, as where a program works on it.
            nonlocal held
            held = operator(x)
            return held

        def variant(output: Literal["fresh", "reused"], run: Callable[[], Any]) -> Variant:
            return Variant(
                layout,
                output,
                run,
                lambda y: operator.download(y).astype(dtype, copy=False),
                operator.synchronize,
                HALF_TOLERANCE if rounded else None,
            )

        return [variant("reused", reused), variant("fresh", fresh)]

    return Started(__version__, prepare)


def _layer(bundle: Bundle, workload: Workload) -> Layer:
    """Return the layer of a workload, else the first one of the same computation in another type."""
    plain = replace(workload, precision=None)
    for layer in bundle.layers if workload not in bundle else ():
        if replace(layer.workload, precision=None).recast(dtype=plain.dtype) == plain:
            return layer
    return bundle.layer(workload)
