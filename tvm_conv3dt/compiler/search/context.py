"""What MetaSchedule's search runs in: its context, made quickly, and the random numbers that it draws."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from tvm.s_tir import meta_schedule as ms

__all__ = ["interruptible", "numpy_seeded", "tune_context"]


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C be a `KeyboardInterrupt` where TVM calls Python: out of TVM it comes as a `RuntimeError` without a message."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler or not _in_main_thread():
        yield
        return
    interrupted = False

    def interrupt(*_: Any) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except RuntimeError as error:
        if interrupted:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


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
