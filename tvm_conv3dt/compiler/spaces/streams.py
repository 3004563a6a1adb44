"""Which outputs may be stored past the caches: see `tvm_conv3dt.compiler.streaming`."""

from __future__ import annotations

from math import prod

from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import DTYPES, Workload

__all__ = ["outgrows_caches", "stream_candidates"]

_STREAMED_BYTES = 32 << 20


def outgrows_caches(workload: Workload, device: Device) -> bool:
    """Whether an output would leave nothing else in the caches, and the device's stores may pass by them."""
    size = prod(workload.output_shape) * workload.itemsize
    return device.arch == "x86_64" and size >= _STREAMED_BYTES


def stream_candidates(layout: Layout, device: Device) -> list[int]:
    """Return whether stores may pass by the caches: those of an output that outgrows them, where all of its vectors are aligned.

    A store that is not aligned cannot pass by, and one that does throws out the line that such a neighbour has begun: 20
    channels took eight times as long.
    """
    workload = layout.workload
    lanes = device.lanes(DTYPES[workload.sum_dtype])
    row = workload.out_channels * layout.axes[2].output
    aligned = layout.together % lanes == row % lanes == 0 or workload.data_format == "NCDHW"
    return [0, 1] if outgrows_caches(workload, device) and aligned else [0]
