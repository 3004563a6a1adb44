"""Sums of split numbers that infinities spoil, made again.

An infinity, or NaN, is its own first piece. In corrections, where the filter's piece may be zero or of the other sign, it makes what
it should not. So each task looks at what it splits of the input, which costs next to nothing, and when it has met one it makes
the sums of each tile once more, without corrections: where such a sum is not finite, it is right. See
`tvm_conv3dt.compiler.pieces`. Filters that are not finite never get here: see `tvm_conv3dt.runtime.operator`.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, s_tir, tirx

from tvm_conv3dt.compiler.expressions import replaced
from tvm_conv3dt.compiler.extremes import (
    INFINITY,
    Extremes,
    annotated,
    bits_of,
    bound,
    each_of,
    watched_lanes,
    with_memory,
)
from tvm_conv3dt.compiler.pieces import split_number
from tvm_conv3dt.compiler.statements import inside, opaque

__all__ = ["MENDED", "WATCHED", "mend_sums"]

WATCHED = "conv3d_transpose.watched"
"""Annotation of the block that splits the input, whose innermost loops are one over pieces and a vector."""

MENDED = "conv3d_transpose.mended"
"""Annotation of the block that has a tile's sums in memory: the name of the block that makes the corrections."""


def mend_sums(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Let tasks of a scheduled function, whose blocks are still there, make sums again when they have met an infinity."""
    lanes = watched_lanes(function, WATCHED)
    if lanes is None:
        return function
    extremes = Extremes(lanes)
    made = [extremes.buffer]

    def loop(each: tirx.For) -> Any:
        if each.kind == tirx.ForKind.PARALLEL:
            return extremes.begin(each)
        inner = each.body
        if isinstance(inner, tirx.For) and annotated(inner.body, WATCHED) is not None:
            return tirx.SeqStmt([_watch(each, extremes), each])
        return each

    def sequence(each: tirx.SeqStmt) -> Any:
        steps: list[Any] = []
        for step in each.seq:
            steps.append(step)
            stored = _stored(step)
            if stored is not None:
                sums = stored.sums
                plain = tirx.decl_buffer(sums.shape, sums.dtype, "plain", scope="local")
                made.append(plain)
                again = tirx.SeqStmt(_again(steps, stored, plain))
                steps.append(tirx.IfThenElse(extremes.reach(INFINITY), again, None))
        return tirx.SeqStmt(steps)

    function = tvm_ffi.structural_map(function, (tirx.SeqStmt, sequence))
    function = tvm_ffi.structural_map(function, (tirx.For, loop))
    return with_memory(function, made)


# ---- the input


def _watch(pieces: tirx.For, extremes: Extremes) -> Any:
    """Return what looks at a vector of numbers whose pieces a loop makes: no more than the largest of all bits is kept."""
    vector = pieces.body
    realize = vector.body
    bits = split_number(realize.block.body.value, bits_of)
    return extremes.look(bound(bits, realize, {pieces.loop_var: 0}), vector.loop_var)


# ---- the sums


class _Stored:
    """The block that has a tile's sums in memory, with what it writes told by the loops around its step."""

    def __init__(self, realize: s_tir.SBlockRealize, loops: dict[Any, int]) -> None:
        (written,) = realize.block.writes
        self.corrections = str(realize.block.annotations[MENDED])
        self.sums = written.source
        self.region = [
            ir.Range.from_min_extent(bound(each.min, realize, loops), each.extent)
            for each in written.region
        ]


def _stored(step: Any) -> _Stored | None:
    """Return the block with a tile's sums, if a step is nothing but that, in loops of one turn."""
    found, loops = inside(step)
    return None if annotated(found, MENDED) is None else _Stored(found, loops)


def _again(steps: list[Any], stored: _Stored, plain: Any) -> list[Any]:
    """Return the steps again without corrections, to other memory, and what takes from there what is not finite."""
    sums, region = stored.sums, stored.region

    def mend(place: list[Any]) -> Any:
        found, without = (tirx.BufferLoad(each, place) for each in (sums, plain))
        finite = tirx.abs(without) < tirx.const(float("inf"), sums.dtype)
        return tirx.BufferStore(sums, tirx.Select(finite, found, without), place)

    tile, read = (tirx.BufferRegion(each, region) for each in (sums, plain))
    *before, last = (_without(step, f"{stored.corrections}_update") for step in steps)
    last = replaced(last, [(sums, plain)])
    return [*before, last, opaque("mended", [tile, read], [tile], each_of(region, mend))]


def _without(step: Any, name: str) -> Any:
    """Return a step without the parts of a sequence in it that are blocks whose names begin so."""

    def visit(sequence: tirx.SeqStmt) -> Any:
        kept = [each for each in sequence.seq if not _first_block(each).startswith(name)]
        return kept[0] if len(kept) == 1 else tirx.SeqStmt(kept)

    return tvm_ffi.structural_map(step, (tirx.SeqStmt, visit))


def _first_block(step: Any) -> str:
    found, _ = inside(step)
    return str(found.block.name_hint) if isinstance(found, s_tir.SBlockRealize) else ""
