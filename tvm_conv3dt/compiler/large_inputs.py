"""Inputs of which no sums can be made: infinities, NaN, and numbers so large that sums of them would overflow.

Winograd's filtering adds inputs before it multiplies them, and an infinity less another is NaN where the operator has an infinity. A large
number would leave its roundings in results that do not read it. So each task looks at the rows that it copies, which costs next to
nothing, and when it has met such a number it makes the sums of products over taps, too, and takes those. See
`tvm_conv3dt.compiler.winograd_definition`.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import s_tir, tirx

from tvm_conv3dt.compiler.extremes import (
    Extremes,
    annotated,
    bits_of,
    bound,
    watched_lanes,
    with_memory,
)
from tvm_conv3dt.compiler.statements import inside

__all__ = ["CHOSEN", "LOOKED_AT", "SPARED", "spare_sums"]

LOOKED_AT = "conv3d_transpose.looked_at"
"""Annotation of the block that copies the rows, whose innermost loop is a vector."""

SPARED = "conv3d_transpose.spared"
"""Annotation of the block whose sums are made where large inputs were met; nothing else is in its loops."""

CHOSEN = "conv3d_transpose.chosen"
"""Annotation of the block that selects one of two results, the second of which is made where large inputs were met."""

# The bits of 2**50. With filters that are no larger, see `tvm_conv3dt.runtime.operator`, no sum of products overflows.
_LARGE = (127 + 50) << 23


def spare_sums(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Let tasks of a scheduled function, whose blocks are still there, make sums over taps only where they have met large inputs."""
    lanes = watched_lanes(function, LOOKED_AT)
    if lanes is None:
        return function
    extremes = Extremes(lanes)
    met = tirx.decl_buffer((1,), "int32", "met", scope="local")
    zero = tirx.const(0, "int32")

    def loop(each: tirx.For) -> Any:
        if each.kind == tirx.ForKind.PARALLEL:
            return extremes.begin(each)
        copy = annotated(each.body, LOOKED_AT)
        if copy is None:
            return each
        bits = bound(bits_of(copy.block.body.value), copy, {})
        return tirx.SeqStmt([extremes.look(bits, each.loop_var), each])

    def block(each: s_tir.SBlock) -> Any:
        if CHOSEN not in each.annotations:
            return each
        store = each.body
        made, direct = store.value.true_value, store.value.false_value
        value = tirx.Select(tirx.BufferLoad(met, [zero]) == 0, made, direct)
        body = tirx.BufferStore(store.buffer, value, store.indices)
        return s_tir.SBlock(each.iter_vars, each.reads, each.writes, each.name_hint, body)

    def sequence(each: tirx.SeqStmt) -> Any:
        steps: list[Any] = []
        for step in each.seq:
            found = inside(step)[0]
            spared = annotated(found, SPARED) is not None
            condition = tirx.BufferLoad(met, [zero]) != 0
            steps.append(tirx.IfThenElse(condition, step, None) if spared else step)
            if annotated(found, LOOKED_AT) is not None:
                steps.append(extremes.keep(_LARGE, met))
        return tirx.SeqStmt(steps)

    function = tvm_ffi.structural_map(function, (s_tir.SBlock, block))
    function = tvm_ffi.structural_map(function, (tirx.SeqStmt, sequence))
    function = tvm_ffi.structural_map(function, (tirx.For, loop))
    return with_memory(function, [extremes.buffer, met])
