"""An implementation's process: ``python -m tvm_conv3dt.measure.peers.worker DESCRIPTOR MODULE THREADS ARGUMENT ...``.

Answers `Prepare` and `Turn` until the connection ends, the former after any number of `Progress`. Between them it sleeps: an answer is sent when the
framework's threads have come to rest, so that they take nothing from whoever is timed next.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from tvm_conv3dt.errors import Conv3dtError
from tvm_conv3dt.measure import timing
from tvm_conv3dt.measure.peers.messages import (
    Failure,
    Prepare,
    Prepared,
    Progress,
    Ready,
    Samples,
    Turn,
)
from tvm_conv3dt.measure.peers.problem import (
    HALF_TOLERANCE,
    HALVES,
    Array,
    Problem,
    Started,
    Variant,
)
from tvm_conv3dt.measure.verify import EPSILON
from tvm_conv3dt.spec import Workload

__all__ = ["main"]

# Largest error as a share of the largest result, in roundings of its type: any order of summation stays
# far below, and a result shifted by one position far above. Of a half type so many would be more than the result.
_ROUNDINGS = 1024


def main() -> None:
    """Answer requests until the connection ends."""
    descriptor, module, threads, *arguments = sys.argv[1:]
    with suppress(EOFError, ConnectionError):  # who asks is gone
        _answer(Connection(int(descriptor)), module, int(threads), arguments)


def _answer(
    connection: Connection[Any, Any], module: str, threads: int, arguments: Sequence[str]
) -> None:
    try:
        started: Started = import_module(module).start(threads, *arguments)
    except Exception as error:
        connection.send(_failure(error))
        return
    connection.send(Ready(started.version))
    variants: Sequence[Variant] = ()
    while True:
        request: Prepare | Turn = connection.recv()
        answer: Prepared | Samples | Failure
        try:
            if isinstance(request, Turn):
                answer = _turn(variants[request.variant], request)
            else:
                variants = ()  # its memory is free before the next layer needs it
                problem = Problem.of(request.workload, lambda text: connection.send(Progress(text)))
                variants = started.prepare(problem)
                answer = _checked(variants, request)
        except Exception as error:
            answer = _failure(error)
        connection.send(answer)


def _turn(variant: Variant, request: Turn) -> Samples | Failure:
    samples = timing.turn(variant.run, request.seconds, variant.wait)
    return Samples(tuple(samples)) if timing.rest() else _restless()


def _checked(variants: Sequence[Variant], request: Prepare) -> Prepared | Failure:
    right: dict[int, tuple[str, str]] = {}
    faults: dict[str, str] = {}
    for place, variant in enumerate(variants):
        try:
            fault = _fault(variant, request, request.writes and not right)
        except Exception as error:  # of one layout: the others may be right
            fault = _failure(error).message
        if fault:
            faults[variant.layout] = fault
        else:
            right[place] = (variant.layout, variant.output)
    if not right:
        return Failure("wrong", "; ".join(f"{name}: {fault}" for name, fault in faults.items()))
    return Prepared(right, faults) if timing.rest() else _restless()


def _fault(variant: Variant, request: Prepare, writes: bool) -> str:
    """Return what is wrong with a variant's result, which is the expected one from now on where it `writes`; nothing where it is right."""
    if variant.array is None:
        return ""
    y = variant.array(variant.run())
    if writes:
        np.save(request.expected, y)
    # A file does not say which two bytes are a bfloat16.
    expected = np.load(request.expected, mmap_mode="r").view(request.workload.numpy_dtype)
    return _compare(y, expected, variant.tolerance or _tolerance(request.workload))


def _tolerance(workload: Workload) -> float:
    if workload.product_dtype in HALVES:
        return HALF_TOLERANCE
    return _ROUNDINGS * EPSILON[workload.dtype]


def _compare(y: Array, expected: Array, tolerance: float) -> str:
    """Return what is wrong with a result; nothing where it is right."""
    if y.shape != expected.shape or y.dtype != expected.dtype:
        return (
            f"{y.dtype} of shape {list(y.shape)} instead of "
            f"{expected.dtype} of shape {list(expected.shape)}"
        )
    error = largest = 0.0
    # Slice by slice: the differences of all at once would be another volume or two.
    for place in np.ndindex(y.shape[:2]):
        ours = np.asarray(expected[place], np.float64)
        difference = float(np.max(np.abs(y[place] - ours), initial=0.0))
        # A maximum that NaN takes part in is NaN, and Python's `max` would lose it.
        if not difference <= error and not math.isnan(error):
            error = difference
        largest = max(largest, float(np.max(np.abs(ours), initial=0.0)))
    if error <= tolerance * largest:
        return ""
    return f"it differs from ours by up to {error:.3g}, where the largest result is {largest:.3g}"


def _restless() -> Failure:
    return Failure("restless", f"its threads still worked {timing.REST_TIMEOUT:g} s after the call")


def _failure(error: Exception) -> Failure:
    text = " ".join(str(error).split())
    if isinstance(error, Conv3dtError):
        return Failure("error", text)
    if (
        len(text) > 300
    ):  # frameworks put their own call stacks in messages, and the cause at the end
        text = f"{text[:80]} … {text[-200:]}"
    return Failure("error", f"{type(error).__name__}: {text}")


if __name__ == "__main__":
    main()
