"""Inputs of which no sums can be made: infinities, NaN, and numbers so large that sums of them would overflow.

Winograd's filtering adds inputs before it multiplies them, and an infinity less another is NaN where the operator has an infinity. So each
task looks at the rows that it copies, which costs next to nothing, and only when it has met such a number it makes the sums of
products over taps, too; where results are no numbers those are taken. See `tvm_conv3dt.compiler.winograd_definition`.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx

from tvm_conv3dt.compiler.extremes import (
    Extremes,
    annotated,
    bits_of,
    bound,
    watched_lanes,
    with_memory,
)
from tvm_conv3dt.compiler.statements import inside

__all__ = ["LOOKED_AT", "SPARED", "spare_sums"]

LOOKED_AT = "conv3d_transpose.looked_at"
"""Annotation of the block that copies the rows, whose innermost loop is a vector."""

SPARED = "conv3d_transpose.spared"
"""Annotation of the block whose sums are made where large inputs were met; nothing else is in its loops."""

# The bits of 2**50. With filters that are no larger, see `tvm_conv3dt.runtime.operator`, no sum of products overflows.
_LARGE = (127 + 50) << 23


def spare_sums(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Let tasks of a scheduled function, whose blocks are still there, make sums over taps only where they have met large inputs."""
    lanes = watched_lanes(function, LOOKED_AT)
    if lanes is None:
        return function
    extremes = Extremes(lanes)

    def loop(each: tirx.For) -> Any:
        if each.kind == tirx.ForKind.PARALLEL:
            return extremes.begin(each)
        copy = annotated(each.body, LOOKED_AT)
        if copy is None:
            return each
        bits = bound(bits_of(copy.block.body.value), copy, {})
        return tirx.SeqStmt([extremes.look(bits, each.loop_var), each])

    def spared(step: Any) -> Any:
        if annotated(inside(step)[0], SPARED) is None:
            return step
        return tirx.IfThenElse(extremes.reach(_LARGE), step, None)

    def sequence(each: tirx.SeqStmt) -> Any:
        return tirx.SeqStmt([spared(step) for step in each.seq])

    function = tvm_ffi.structural_map(function, (tirx.SeqStmt, sequence))
    function = tvm_ffi.structural_map(function, (tirx.For, loop))
    return with_memory(function, [extremes.buffer])
