"""Scheduled operators for GPUs, executed on the CPU on integer-valued data."""

from __future__ import annotations

import numpy as np
import tvm

from tvm_conv3dt.compiler.activation import EXPENSIVE
from tvm_conv3dt.compiler.cuda_pipeline import CUDA
from tvm_conv3dt.compiler.packing import define_packing
from tvm_conv3dt.compiler.schedule import Schedule
from tvm_conv3dt.compiler.target import target_of
from tvm_conv3dt.device import Device
from tvm_conv3dt.memory import stored
from tvm_conv3dt.reference import integer_data, reference

from .emulator import Emulated

__all__ = ["wrong_results"]

# Relative and absolute, of activations that are not exact: a step of the half types, or two.
_TOLERANCES = {"float16": 2.0**-9, "bfloat16": 2.0**-6}


def wrong_results(schedule: Schedule, device: Device, order: str = "forward") -> int:
    """Execute packing and operator as a GPU would, and return how many results differ from the reference.

    Packed filters and results are NaN before, and so count as different where nothing is written.
    """
    workload, layout = schedule.workload, schedule.layout(device)
    run = next(iter(schedule.apply(device).mod.functions.values()))
    module = tvm.IRModule({"run": run, "pack": define_packing(layout, "pack")})
    emulated = Emulated.of(module, target_of(device), CUDA)
    x, filters, bias = integer_data(workload, seed=0)
    packed = np.full(layout.packed_shape, np.nan, layout.packed_dtype)
    y = np.full(workload.output_shape, np.nan, x.dtype)
    arguments = [x, *([] if bias is None else [bias]), y]
    first, *rest = map(stored, arguments)
    emulated["pack"](stored(filters), packed, order=order)
    emulated["run"](first, packed, *rest, order=order)
    expected = reference(workload, x, filters, bias).astype(x.dtype)
    if workload.activation not in EXPENSIVE:
        return int(np.count_nonzero(y != expected))
    tolerance = _TOLERANCES.get(workload.dtype, 1e-5)
    found, expected = (each.astype(np.float64) for each in (y, expected))
    close = np.isclose(found, expected, rtol=tolerance, atol=tolerance)
    return int(np.count_nonzero(~close))
