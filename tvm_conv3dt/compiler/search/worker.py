"""The measuring process: ``python -m tvm_conv3dt.compiler.search.worker DESCRIPTOR THREADS``.

Takes `Request` and answers `Timed` or `Failure` until the connection ends. A candidate must equal the
reference on integers, on poisoned output, before its time counts.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import tvm

from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.activation import EXPENSIVE
from tvm_conv3dt.compiler.kernel import Kernel
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.schedule import apply_trace
from tvm_conv3dt.compiler.search.measurer import READY, Failure, Request, Timed
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import CompileError, SignatureError
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.threads import pool_arguments

__all__ = ["main", "measure"]

# Activations that are not exact in float32 are compared within this, relative and absolute.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class _Data:
    x: Any
    filters: Any
    bias: tuple[Any, ...]
    expected: np.ndarray[Any, Any]


@lru_cache(maxsize=1)
def _data(workload: Workload) -> _Data:
    x, filters, bias = integer_data(workload, seed=0)
    expected = reference(workload, x, filters, bias).astype(x.dtype)
    return _Data(
        x=tvm.runtime.tensor(x),
        filters=tvm.runtime.tensor(filters),
        bias=() if bias is None else (tvm.runtime.tensor(bias),),
        expected=expected,
    )


def measure(request: Request) -> Timed | Failure:
    """Build, verify and time one candidate in this process."""
    try:
        built = _build(request.layout, request.device, json.dumps(request.trace))
    except (CompileError, SignatureError) as error:
        return Failure("compile", str(error))
    return _run(built, request)


# Promotion measures a few candidates over and over, in turns.
@lru_cache(maxsize=8)
def _build(layout: Layout, device: Device, trace: str) -> Kernel:
    sch = kernel.new_schedule(layout)
    apply_trace(sch, json.loads(trace), layout.workload)
    return kernel.compile_kernel(layout, device, sch)


def _run(built: Kernel, request: Request) -> Timed | Failure:
    workload = request.layout.workload
    data = _data(workload)
    packed = tvm.runtime.empty(built.packed_shape, workload.dtype)
    built.pack(data.filters, packed)
    y = tvm.runtime.tensor(np.full(workload.output_shape, np.nan, workload.dtype))
    arguments = (data.x, packed, *data.bias, y)

    first = _seconds(built, arguments)
    result = y.numpy()
    if workload.activation in EXPENSIVE:
        equal = np.allclose(result, data.expected, rtol=_TOLERANCE, atol=_TOLERANCE)
    else:
        equal = np.array_equal(result, data.expected)
    if not equal:
        wrong = int(np.count_nonzero(~np.isclose(result, data.expected, rtol=_TOLERANCE)))
        return Failure("wrong", f"{wrong} of {result.size} results differ from the reference")
    if first > request.give_up_seconds:
        return Timed((first,), built.workspace_bytes)
    times: list[float] = []
    while len(times) < 3 or sum(times) < request.seconds:
        times.append(_seconds(built, arguments))
    return Timed(tuple(times), built.workspace_bytes)


def _seconds(built: Kernel, arguments: tuple[Any, ...]) -> float:
    start = time.perf_counter()
    built.run(*arguments)
    return time.perf_counter() - start


def main() -> None:
    """Answer requests until the connection ends."""
    descriptor, count = int(sys.argv[1]), int(sys.argv[2])
    connection: Connection[Any, Any] = Connection(descriptor)
    # As the runtime does it, so that what is measured here is what runs there.
    tvm.get_global_func("runtime.config_threadpool")(*pool_arguments(count, size=count))
    connection.send(READY)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        connection.send(measure(request))


if __name__ == "__main__":
    main()
