"""A peer for tests: NumPy's reference, and whatever can go wrong, by the argument of `start`."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np

from tvm_conv3dt.errors import UnsupportedError
from tvm_conv3dt.measure.peers.problem import Started, Variant
from tvm_conv3dt.reference import reference


def right(problem):
    result = reference(problem.workload, problem.x, problem.filters, problem.bias)
    return result.astype(problem.workload.numpy_dtype)


def start(threads, behaviour="right", *arguments):
    if behaviour == "no start":
        raise ImportError("no such framework")
    if behaviour == "refuse variable" and arguments[0] in os.environ:
        raise ImportError(f"{arguments[0]} is set")
    if behaviour == "noisy":
        print("a greeting")
    return Started(f"1.{threads}", lambda problem: prepare(problem, behaviour, *arguments))


def prepare(problem, behaviour, *arguments):
    if behaviour == "machine":
        names = ("product", "copy", "write", f"move {problem.workload.id}", *arguments)
        return [Variant(f"{name}:1000", "reused", lambda: None, None) for name in names]
    if behaviour == "crash":
        print("the last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGABRT)
    if behaviour == "crash once" and not Path(arguments[0]).exists():
        Path(arguments[0]).touch()
        sys.exit(7)
    if behaviour == "hang":
        Path(arguments[0]).write_text(str(os.getpid()))
        time.sleep(600)
    if behaviour == "refuse":
        raise UnsupportedError("failed to compute it")
    if behaviour == "restless":
        threading.Thread(target=spin, daemon=True).start()
    if behaviour == "slow":
        for place in range(4):
            time.sleep(float(arguments[0]))
            problem.report(f"step {place}")
    y = right(problem)
    other = {
        "wrong": lambda: (y * 1.01).astype(y.dtype),
        "very wrong": lambda: (y * 1.05).astype(y.dtype),
        "wrong layout": lambda: y * 1.01,
        "NaN": lambda: np.full_like(y, np.nan),
        "shifted": lambda: np.roll(y, 1, axis=3),
        "shape": lambda: y[:, :-1],
        "NaN at first": lambda: nan_at_first(y),
        "refuse layout": refuse,
    }.get(behaviour, lambda: y)

    def timed():
        if behaviour == "crash in a turn" and timed.calls >= 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        timed.calls += 1
        return other()

    timed.calls = 0
    first = (lambda: y) if behaviour in ("wrong layout", "refuse layout") else timed
    return [
        Variant("plain", "reused", first, np.asarray),
        Variant("turned", "fresh", timed, np.asarray),
    ]


def nan_at_first(y):
    y = y.copy()
    y[0, 0] = np.nan
    return y


def refuse():
    raise RuntimeError("no such layout")


def spin():
    while True:
        sum(range(1000))
