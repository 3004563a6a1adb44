"""What MetaSchedule's search runs in: its context, made quickly, and the random numbers that it draws."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from tvm.s_tir import meta_schedule as ms

__all__ = ["numpy_seeded", "tune_context"]


@contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator: the cost model draws from it until it has learned enough."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def tune_context(**arguments: Any) -> ms.TuneContext:
    """Return a tune context, without the half minute that it takes to parse tensor intrinsics.

    Its constructor imports every tensor intrinsic of every target, 248 parsed scripts; this space uses none.
    """
    name = "tvm.s_tir.tensor_intrin"
    if name in sys.modules:
        return ms.TuneContext(**arguments)
    sys.modules[name] = ModuleType(name)
    try:
        return ms.TuneContext(**arguments)
    finally:
        del sys.modules[name]
