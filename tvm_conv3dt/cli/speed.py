"""Times one layer as bundles hold it, in turns with peers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tvm_conv3dt.measure import peers
from tvm_conv3dt.measure.report import Row
from tvm_conv3dt.measure.timing import interleave
from tvm_conv3dt.reference import random_data

if TYPE_CHECKING:
    from tvm_conv3dt.manifest import Layer
    from tvm_conv3dt.runtime import Bundle


def row(
    layer: Layer, bundles: Mapping[str, Bundle], seconds: float, peer_names: Sequence[str] = ()
) -> Row:
    """Time a layer.

    Parameters
    ----------
    layer
        Its workload and its name in every bundle.
    bundles
        By the name that their times get.
    seconds
        For all together, about.
    peer_names
        Of `peers.PEERS`; timed in turns with the bundles.
    """
    workload = layer.workload
    x, filters, bias = random_data(workload, seed=0)
    out = np.zeros(workload.output_shape, workload.numpy_dtype)
    functions: dict[str, Callable[[], object]] = {}
    for name, bundle in bundles.items():
        operator = bundle.operator(layer.name, filters, bias)
        functions[name] = lambda operator=operator: operator(x, out=out)  # type: ignore[misc]
    for name in peer_names:
        functions[name] = peers.prepare(name, workload, x, filters, bias)
    return Row(layer.name, workload, interleave(functions, seconds))
