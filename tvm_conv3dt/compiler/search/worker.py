"""The measuring process: ``python -m tvm_conv3dt.compiler.search.worker DESCRIPTOR THREADS``.

Takes `Request` and answers `Timed` or `Failure` until the connection ends. A candidate must equal the
reference on integers, on poisoned output, before its time counts.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import numpy as np
import tvm

from tvm_conv3dt.bfloat16 import numpy_dtype
from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.activation import EXPENSIVE
from tvm_conv3dt.compiler.definition import AnyLayout
from tvm_conv3dt.compiler.kernel import Kernel
from tvm_conv3dt.compiler.schedule import apply_trace
from tvm_conv3dt.compiler.search.measurer import (
    CRASH,
    READY,
    Candidate,
    Failure,
    Request,
    Timed,
)
from tvm_conv3dt.compiler.search.place import Place, place_of
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import CompileError, SignatureError
from tvm_conv3dt.memory import stored
from tvm_conv3dt.reference import integer_data, reference, rounded
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.threads import pool_arguments

__all__ = ["calls_in_a_block", "check", "main", "measure", "timed_in_turns"]

# Activations that are not exact are compared within this, relative and absolute: a step of the half types, or two.
_TOLERANCES = {"float16": 2.0**-9, "bfloat16": 2.0**-6}
_TOLERANCE = 1e-5


# Calls in a row before it is the other's turn: caches are warm then, as they are for who calls one kernel often.
_BLOCK_SECONDS = 0.02
_LEAST_BLOCKS = 3


@dataclass(frozen=True)
class _Data:
    x: Any
    filters: Any
    bias: tuple[Any, ...]
    result: Any
    expected: np.ndarray[Any, Any]


@lru_cache(maxsize=1)
def _place(kind: str) -> Place:
    return place_of(kind)


@lru_cache(maxsize=1)
def _data(workload: Workload, kind: str) -> _Data:
    place = _place(kind)
    x, filters, bias = integer_data(workload, seed=0)
    expected = rounded(workload, reference(workload, x, filters, bias))
    return _Data(
        x=place.tensor(x),
        filters=place.tensor(filters),
        bias=() if bias is None else (place.tensor(bias),),
        result=place.empty(workload.output_shape, workload.numpy_dtype),
        expected=expected,
    )


@dataclass(frozen=True)
class _Ready:
    """A compiled candidate with its data."""

    built: Kernel
    data: _Data
    arguments: tuple[Any, ...]
    place: Place

    def seconds(self, calls: int = 1) -> float:
        """Time some calls together, and return the seconds of one."""
        start = time.perf_counter()
        for _ in range(calls):
            self.built.run(*self.arguments)
        self.place.synchronize()
        return (time.perf_counter() - start) / calls

    def block(self, first: float) -> list[float]:
        """Time some calls in a row, after one that does not count; `first` is about what one takes."""
        self.seconds()
        calls = self.place.calls(first)
        return [self.seconds(calls) for _ in range(calls_in_a_block(first * calls))]


def measure(request: Request) -> Timed | Failure:
    """Build, verify and time one candidate in this process.

    After a failure of the kind ``"crash"`` the process is good for nothing more: neither is a GPU's context.
    """
    try:
        return _measure(request)
    except Exception as error:  # what tvm-ffi makes of what compiled code, or a GPU, reports
        return Failure(CRASH, " ".join(str(error).split()))


def _measure(request: Request) -> Timed | Failure:
    baseline = request.baseline
    try:
        ready = _ready(request.candidate, request.device)
        other = None if baseline is None else _ready(baseline.candidate, request.device)
    except (CompileError, SignatureError) as error:
        return Failure("compile", str(error))
    first, failure = _verified(ready)
    if failure is not None:
        return failure
    workspace_bytes = ready.built.workspace_bytes
    if first > request.give_up_seconds:
        warm = _at_pace(ready, other, request)
        if warm > request.give_up_seconds:
            return Timed((warm,), workspace_bytes)
    times = timed_in_turns(
        request,
        lambda: ready.block(first),
        None if other is None else lambda: other.block(first),
    )
    return Timed(times, workspace_bytes)


def _at_pace(ready: _Ready, other: _Ready | None, request: Request) -> float:
    """Return the seconds of a call, after one that woke threads and filled caches, at the pace of the baseline."""
    seconds = ready.seconds()
    if other is None or request.baseline is None:
        return seconds
    other.seconds()
    return seconds * request.baseline.seconds / other.seconds()


def timed_in_turns(
    request: Request, block: Callable[[], list[float]], other: Callable[[], list[float]] | None
) -> tuple[float, ...]:
    """Return a candidate's seconds, at the pace of its baseline; `block` and `other` time some calls of each in a row."""
    times: list[float] = []
    others: list[float] = []
    blocks = 0
    while blocks < _LEAST_BLOCKS or sum(times) < request.seconds:
        times += block()
        if other is not None:
            others += other()
        blocks += 1
    if request.baseline is not None:
        pace = request.baseline.seconds / median(others)
        times = [pace * each for each in times]
    return tuple(times)


def calls_in_a_block(first: float) -> int:
    """Return how many calls are timed in a row where one takes about `first` seconds."""
    return max(1, int(_BLOCK_SECONDS / first))


def _ready(candidate: Candidate, device: Device) -> _Ready:
    return _prepared(candidate.layout, device, json.dumps(candidate.trace))


# Promotion measures a few candidates over and over, in turns, and a search has its baseline.
@lru_cache(maxsize=8)
def _prepared(layout: AnyLayout, device: Device, trace: str) -> _Ready:
    workload = layout.workload
    sch = kernel.new_schedule(layout)
    apply_trace(sch, json.loads(trace), workload)
    built = kernel.compile_kernel(layout, device, sch)
    place = _place(device.kind)
    data = _data(workload, device.kind)
    packed = place.empty(built.packed_shape, numpy_dtype(built.packed_dtype))
    built.pack(data.filters, packed)
    return _Ready(built, data, (data.x, packed, *data.bias, data.result), place)


def _verified(ready: _Ready) -> tuple[float, Failure | None]:
    """Return the seconds of a first call, and what is wrong with its result."""
    data, workload = ready.data, ready.built.workload
    if ready.place.late:
        ready.seconds()
    poison = np.full(workload.output_shape, np.nan, workload.numpy_dtype)
    data.result.copyfrom(stored(poison))
    first = ready.seconds()
    result = data.result.numpy().view(workload.numpy_dtype)
    return first, check(workload, result, data.expected)


def check(
    workload: Workload, result: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]
) -> Failure | None:
    """Return what is wrong with a result; activations that are not exact have a tolerance."""
    if workload.activation in EXPENSIVE:
        tolerance = _TOLERANCES.get(workload.dtype, _TOLERANCE)
        found, expected = (each.astype(np.float64) for each in (result, reference))
        equal = np.isclose(found, expected, rtol=tolerance, atol=tolerance)
    else:
        equal = result == reference
    if equal.all():
        return None
    wrong = np.count_nonzero(~equal)
    message = f"{int(wrong)} of {result.size} results differ from the reference"
    return Failure("wrong", message)


def main() -> None:
    """Answer requests until the connection ends."""
    descriptor, count = int(sys.argv[1]), int(sys.argv[2])
    connection: Connection[Any, Any] = Connection(descriptor)
    # As the runtime does it, so that what is measured here is what runs there.
    tvm.get_global_func("runtime.config_threadpool")(*pool_arguments(count, size=count))
    with suppress(EOFError, ConnectionError):  # who asks is gone
        connection.send(READY)
        while True:
            answer = measure(connection.recv())
            connection.send(answer)
            if isinstance(answer, Failure) and answer.kind == CRASH:
                return


if __name__ == "__main__":
    main()
