"""Bundles as the verbs that run them take them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tvm_conv3dt import runtime
from tvm_conv3dt.manifest import Layer
from tvm_conv3dt.measure.verify import Array, Run
from tvm_conv3dt.runtime import Bundle


def load_layers(
    folder: Path, names: Sequence[str], threads: int | None, level: str | None = None
) -> tuple[Bundle, list[Layer]]:
    """Load a bundle on a level, set its threads, and return it with the layers that were asked for.

    Raises
    ------
    Conv3dtError
        If the bundle does not load (see `tvm_conv3dt.runtime.load`) or lacks the level or a layer.
    """
    if threads is not None:
        runtime.set_num_threads(threads)
    bundle = runtime.load(folder, level=level)
    return bundle, [bundle.layer(name) for name in names] or list(bundle.layers)


def runner(bundle: Bundle, layer: Layer) -> Run:
    """Return a layer in the form that `tvm_conv3dt.measure.verify` takes."""

    def run(x: Array, filters: Array, bias: Array | None, out: Array) -> object:
        return bundle.operator(layer.name, filters, bias)(x, out=out)

    return run
