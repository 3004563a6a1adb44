"""What a kernel may take beside its arguments: copies of rows, see `tvm_conv3dt.compiler.spaces.row_copies`."""

from __future__ import annotations

from math import prod

from tvm_conv3dt.compiler.definition import AnyLayout
from tvm_conv3dt.phases import Axis
from tvm_conv3dt.spec import Workload

__all__ = ["fits", "inputs", "most_bytes", "shares"]

# What a kernel may take beside its arguments: so many bytes, or this share of the output where that is more.
_WORKSPACE_BYTES = 1_000_000
_WORKSPACE_SHARE = 0.05


def fits(layout: AnyLayout, tile: tuple[int, int], phases: int = 1, copies: int = 1) -> bool:
    """Whether copies are small of the rows that tasks of `tile` positions of depth and height read, and of their results.

    `phases` of depth and height are in a task, where they are not folded.
    """
    workload, axes = layout.workload, layout.axes
    size = 0
    if layout.copied:
        planes, rows = (
            inputs(axis, folded, positions) + sum(margin) * (positions >= axis.quotients)
            for axis, folded, margin, positions in zip(
                axes, layout.folded, layout.margins, tile, strict=False
            )
        )
        row = layout.copied_channels * axes[2].input
        size = planes * rows * (row + layout.copied_channels * sum(layout.halo))
        if layout.turned and layout.padded:
            size += rows * row
    if layout.turned_back:
        folded = prod(
            a.phases for a, folds in zip(axes[:2], layout.folded[:2], strict=True) if folds
        )
        phases = max(phases, layout.axes[1].phases)
        size += prod(tile) * max(phases, folded) * axes[2].output * workload.out_channels
    return copies * size * layout.itemsize <= most_bytes(workload)


def most_bytes(workload: Workload) -> float:
    """Return how many bytes a kernel may take beside its arguments."""
    output = prod(workload.output_shape) * workload.itemsize
    return max(_WORKSPACE_BYTES, _WORKSPACE_SHARE * output)


def inputs(axis: Axis, folded: bool, positions: int, margin: int = 0) -> int:
    """Return how many input positions so many output positions of an axis read, all their phases together.

    `margin` of zeros before and after the input count as such.
    """
    first, last = axis.reads
    of_one = last - first + 1 - (axis.quotients - 1)
    if folded:
        of_one = axis.folded_taps
    return min(axis.input + margin, positions - 1 + of_one)


def shares(positions: int) -> list[int]:
    """Return how many positions each of some equal shares can have, the fewest first."""
    return sorted({-(-positions // count) for count in range(1, positions + 1)})
