"""Scheduled operators for GPUs, executed on the CPU."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import tvm

from tvm_conv3dt.compiler.activation import EXPENSIVE
from tvm_conv3dt.compiler.cuda_pipeline import CUDA
from tvm_conv3dt.compiler.packing import define_packing
from tvm_conv3dt.compiler.schedule import Schedule
from tvm_conv3dt.compiler.target import target_of
from tvm_conv3dt.device import Device
from tvm_conv3dt.memory import stored
from tvm_conv3dt.reference import Data, integer_data, reference
from tvm_conv3dt.spec import Workload

from .emulator import Emulated

__all__ = ["computed", "emulated", "wrong_results"]

# Relative and absolute, of activations that are not exact: a step of the half types, or two.
_TOLERANCES = {"float16": 2.0**-9, "bfloat16": 2.0**-6}


def emulated(schedule: Schedule, device: Device) -> Emulated:
    """Return a scheduled operator as ``run``, and its packing as ``pack``."""
    run = next(iter(schedule.apply(device).mod.functions.values()))
    module = tvm.IRModule({"run": run, "pack": define_packing(schedule.layout(device), "pack")})
    return Emulated.of(module, target_of(device), CUDA)


def computed(schedule: Schedule, device: Device, data: Data, order: str = "forward") -> np.ndarray:
    """Execute packing and operator as a GPU would, on input, filters and bias, and return the result.

    Packed filters and results are NaN before.
    """
    x, filters, bias = data
    layout = schedule.layout(device)
    functions = emulated(schedule, device)
    packed = np.full(layout.packed_shape, np.nan, layout.packed_dtype)
    y = np.full(schedule.workload.output_shape, np.nan, x.dtype)
    arguments = [x, *([] if bias is None else [bias]), y]
    first, *rest = map(stored, arguments)
    functions["pack"](stored(filters), packed, order=order)
    functions["run"](first, packed, *rest, order=order)
    return y


@lru_cache(maxsize=1)
def _known(workload: Workload) -> tuple[Data, np.ndarray]:
    """Data and their result; both take longer than a kernel for some layers, which several devices' are compared with."""
    data = integer_data(workload, seed=0)
    return data, reference(workload, *data).astype(data[0].dtype)


def wrong_results(schedule: Schedule, device: Device, order: str = "forward") -> int:
    """Return how many results on integer-valued data differ from the reference; so do those that are not written."""
    workload = schedule.workload
    data, expected = _known(workload)
    y = computed(schedule, device, data, order)
    if workload.activation not in EXPENSIVE:
        return int(np.count_nonzero(y != expected))
    tolerance = _TOLERANCES.get(workload.dtype, 1e-5)
    found, expected = (each.astype(np.float64) for each in (y, expected))
    close = np.isclose(found, expected, rtol=tolerance, atol=tolerance)
    return int(np.count_nonzero(~close))
