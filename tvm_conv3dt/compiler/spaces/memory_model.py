"""How far data lie from a core, and what that costs, for estimates of points on CPUs."""

from __future__ import annotations

from math import prod

from tvm_conv3dt.compiler.spaces.core_model import adds_apart
from tvm_conv3dt.compiler.spaces.streams import outgrows_caches
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import Workload

__all__ = ["NEAR", "NEAR_L1", "TURN_CYCLES", "fetch", "write"]

NEAR = 0.4
"""The share of the second cache that is counted on: its sets fill unevenly, and others use it too."""

NEAR_L1 = 0.75
"""As `NEAR`, of the first cache."""

TURN_CYCLES = 8
"""Of a vector whose rows are turned: loaded, through some shuffles, and stored."""

_L2_BYTES_PER_CYCLE = 24
_L3_BYTES_PER_CYCLE = 9
_AMD_L3_BYTES_PER_CYCLE = 24  # measured on Zen 4: 27 of 8 MB, where the second cache gives 32
_MEMORY_BYTES_PER_CYCLE = 4
_EXPOSED = 0.3


def fetch(device: Device, working_set: float) -> float:
    """Return the cycles that each byte of a stream costs, by where data of that size stays."""
    if working_set <= device.l1_bytes * NEAR_L1:
        return 0.0
    if working_set <= device.l2_bytes * NEAR:
        return 0.25 / _L2_BYTES_PER_CYCLE
    if working_set <= device.l3_bytes * 0.75:
        return 0.6 / (_AMD_L3_BYTES_PER_CYCLE if adds_apart(device) else _L3_BYTES_PER_CYCLE)
    return 1.0 / _MEMORY_BYTES_PER_CYCLE


def write(workload: Workload, device: Device, stream: int) -> float:
    """Return the cycles that the memory takes for an output larger than the caches, beyond those that hide behind arithmetic."""
    if not outgrows_caches(workload, device):
        return 0.0
    # What is stored through the caches is read first.
    moved = prod(workload.output_shape) * workload.itemsize * (1 if stream else 2)
    return _EXPOSED * moved / _MEMORY_BYTES_PER_CYCLE / device.cores
