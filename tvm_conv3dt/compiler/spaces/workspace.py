"""What a kernel may take beside its arguments: copies of rows, see `tvm_conv3dt.compiler.spaces.row_copies`."""

from __future__ import annotations

from math import prod

from tvm_conv3dt.compiler.definition import AnyLayout

__all__ = ["fits"]

# What a kernel may take beside its arguments: so many bytes, or this share of the output where that is more.
_WORKSPACE_BYTES = 1 << 20
_WORKSPACE_SHARE = 0.05


def fits(layout: AnyLayout, tile: tuple[int, int], phases: int = 1, copies: int = 1) -> bool:
    """Whether copies are small of the rows that tasks of `tile` positions of depth and height read, and of their results.

    `phases` of depth and height are in a task, where they are not folded.
    """
    workload, axes = layout.workload, layout.axes
    size = 0
    if layout.copied:
        size = workload.in_channels * (axes[2].input + sum(layout.halo))
        for axis, taps, positions in zip(axes, layout.taps, tile, strict=False):
            # Positions less one, and from the first to the last input that one position reads.
            size *= min(axis.input, positions + taps * axis.input_step)
    if layout.turned_back:
        folded = prod(
            a.phases for a, folds in zip(axes[:2], layout.folded[:2], strict=True) if folds
        )
        phases = max(phases, layout.axes[1].phases)
        size += prod(tile) * max(phases, folded) * axes[2].output * workload.out_channels
    output = prod(workload.output_shape) * workload.itemsize
    most = max(_WORKSPACE_BYTES, _WORKSPACE_SHARE * output)
    return copies * size * layout.itemsize <= most
