"""How many threads the operators use.

TVM keeps one pool of worker threads per calling thread, and left to itself makes it half as large as the machine
has cores, and binds the caller to the first ones, whatever the process may use. So the pool is
configured before the first call in each thread: the affinity mask stays what it was, and
nothing is bound to a single core.
"""

from __future__ import annotations

import operator
import os
import threading
import warnings
from typing import Any

import tvm_ffi

from tvm_conv3dt import threads
from tvm_conv3dt.errors import ArgumentTypeError, DeviceError, describe, show
from tvm_conv3dt.locks import Lock

__all__ = ["get_num_threads", "prepare", "set_num_threads"]


class _Caller(threading.local):
    """What is known of the calling thread's pool."""

    generation = -1  # of the setting that the pool has; -1 before the pool exists
    forked = False  # the pool's workers stayed behind in the parent process


class _Setting:
    """The number of threads asked for; None means what the process may use."""

    requested: int | None = None
    generation = 0
    fork_handled = False


_caller = _Caller()
_setting = _Setting()
_lock = Lock()


def get_num_threads() -> int:
    """Return how many threads an operator's call uses.

    Returns
    -------
    int
        What `set_num_threads` set, else what the affinity mask and the container's quota allow.
    """
    return _setting.requested or threads.available()


def set_num_threads(count: int | None) -> None:
    """Set how many threads each operator's call uses, in all threads of this process.

    Results do not depend on it. Calls from several Python threads at once use this many each.
    A forked child process runs on one thread in the thread that forked, since the workers stay in the
    parent; use the start methods "spawn" or "forkserver" where speed counts.

    Parameters
    ----------
    count : int or None
        At least 1, and at most the number of cores that the process may use; None sets the default.

    Raises
    ------
    ArgumentTypeError
        If it is not an integer.
    DeviceError
        If it is out of range.
    """
    if count is not None:
        count = _whole(count)
        limit = _capacity()
        if not 1 <= count <= limit:
            rule = f"it must be from 1 to {limit}, the cores that this process may use"
            raise DeviceError(describe("set", "threads", f"count={show(count)}", rule))
    with _lock:
        _setting.requested = count
        _setting.generation += 1


def _whole(count: Any) -> int:
    try:
        if isinstance(count, bool):
            raise TypeError
        return operator.index(count)
    except Exception as error:  # what an object of another package raises
        rule = "it must be an integer or None"
        raise ArgumentTypeError(describe("set", "threads", f"count={show(count)}", rule)) from error


def prepare() -> None:
    """Give the calling thread's pool the number of threads that is set; cheap where it has it."""
    if _caller.generation != _setting.generation:
        _configure()


def _configure() -> None:
    with _lock:
        generation, count = _setting.generation, get_num_threads()
        if not _setting.fork_handled and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork_in_child)
            _setting.fork_handled = True
    if _caller.forked:
        count = 1
    arguments = threads.pool_arguments(count, size=max(_capacity(), count))
    tvm_ffi.get_global_func("runtime.config_threadpool")(*arguments)
    got = tvm_ffi.get_global_func("runtime.NumThreads")()
    if got < count:
        warnings.warn(
            describe(
                "set",
                "threads",
                f"count={count}",
                f"TVM's pool of this thread was made earlier, for {got}",
                "call the operator from another thread, or before other uses of TVM",
            ),
            RuntimeWarning,
            stacklevel=4,
        )
    _caller.generation = generation


def _capacity() -> int:
    return max(threads.available(), len(threads.affinity(os.getpid())))


def _after_fork_in_child() -> None:
    if _caller.generation >= 0:
        _caller.forked = True
        _caller.generation = -1
