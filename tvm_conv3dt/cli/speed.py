"""Times one layer as bundles hold it, all in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tvm_conv3dt.measure.report import Row
from tvm_conv3dt.measure.timing import interleave
from tvm_conv3dt.memory import aligned_copy, aligned_empty
from tvm_conv3dt.reference import random_data

if TYPE_CHECKING:
    from tvm_conv3dt.manifest import Layer
    from tvm_conv3dt.runtime import Bundle


def row(layer: Layer, bundles: Mapping[str, Bundle], seconds: float) -> Row:
    """Time a layer.

    Parameters
    ----------
    layer
        Its workload and its name in every bundle.
    bundles
        By the name that their times get.
    seconds
        For all together, about.
    """
    workload = layer.workload
    x, filters, bias = random_data(workload, seed=0)
    # As kernels like arrays best: NumPy's own start anywhere, and no store to them can pass by the caches.
    x, out = aligned_copy(x), aligned_empty(workload.output_shape, workload.numpy_dtype)
    out[...] = 0
    functions: dict[str, Callable[[], object]] = {}
    for name, bundle in bundles.items():
        operator = bundle.operator(layer.name, filters, bias)
        functions[name] = lambda operator=operator: operator(x, out=out)  # type: ignore[misc]
    return Row(layer.name, workload, interleave(functions, seconds))
