"""What a task reads of the next plane, asked for while it computes one.

Where a task goes through planes, a stretch of some rows at a time, each new stretch is shorter than what the CPU's own
prefetching needs to find out. So the task asks for what lies one plane further on, a share with each vector of results.
"""

from __future__ import annotations

from math import prod
from typing import Any

import tvm
import tvm_ffi
from tvm import ir, s_tir, tirx

from tvm_conv3dt.compiler.expressions import at
from tvm_conv3dt.compiler.statements import inside, opaque
from tvm_conv3dt.compiler.tile_loops import turn_number

__all__ = ["LINE_BYTES", "PREFETCHED", "ask_for", "ask_in_turns", "bytes_of", "prefetch_planes"]

PREFETCHED = "conv3d_transpose.prefetched"
"""Annotation of the block that clears a vector's sums, with axes as those of the results: planes ahead, positions of a vector, and vectors."""

LINE_BYTES = 64
_READ, _SECOND_CACHE, _DATA = 0, 2, 1


def prefetch_planes(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Let a scheduled function, whose blocks are still there, ask for its input ahead, where a block is annotated."""
    x = function.params[0]

    def visit(sequence: tirx.SeqStmt) -> Any:
        first, loops = inside(sequence.seq[0])
        if not isinstance(first, s_tir.SBlockRealize) or PREFETCHED not in first.block.annotations:
            return sequence
        return tirx.SeqStmt([*_prefetches(x, first, loops), *sequence.seq])

    return tvm_ffi.structural_map(function, (tirx.SeqStmt, visit))


def _prefetches(x: Any, realize: s_tir.SBlockRealize, loops: dict[Any, int]) -> list[Any]:
    """Return the statements that ask for the share of one vector of results."""
    block = realize.block
    ahead, positions, vectors = map(int, str(block.annotations[PREFETCHED]).split())
    pairs = zip(block.iter_vars, realize.iter_values, strict=True)
    places = {str(axis.var.name).removeprefix("v_"): (axis, value) for axis, value in pairs}

    def index(name: str) -> Any:
        return at(places[name][1], loops)

    def count(name: str) -> int:
        return int(places[name][0].dom.extent)

    _, planes, rows, columns, channels = (int(size) for size in x.shape)
    elements = LINE_BYTES * 8 // tvm.DataType(x.dtype).bits
    width = min(positions * vectors, columns)
    phases = count("rd") * count("rh")
    share = -(-width * channels // (elements * phases))
    first = (index("rd") * count("rh") + index("rh")) * share
    start = [
        index("n"),
        tirx.min(index("qd") + ahead, planes - 1),
        tirx.min(index("qh"), rows - 1),
        tirx.min(index("f") * positions, columns - width),
    ]
    # What lies past a row is the next one.
    return [_prefetch(x, [*start, (first + line) * elements]) for line in range(share)]


def _prefetch(x: Any, index: list[Any]) -> Any:
    read = tirx.BufferRegion(x, [ir.Range.from_min_extent(each, 1) for each in index])
    return opaque("prefetched", [read], [], ask_for(x, index))


def bytes_of(array: Any) -> int:
    """Return the bytes of an array, which is a parameter of a function."""
    return prod(int(size) for size in array.shape) * int(tvm.DataType(array.dtype).bits) // 8


def ask_in_turns(array: Any, start: Any, elements: int, loops: list[tirx.For]) -> list[Any]:
    """Return the statements by which each turn of loops in each other asks for its share of elements that follow each other."""
    line = LINE_BYTES * 8 // tvm.DataType(array.dtype).bits
    lines = -(-elements // line)
    share = -(-lines // prod(int(loop.extent) for loop in loops))
    first = turn_number(loops) * share
    places = (start + tirx.min(first + n, lines - 1) * line for n in range(share))
    return [ask_for(array, [place]) for place in places]


def ask_for(array: Any, index: list[Any]) -> tirx.Evaluate:
    """Return a statement that asks for the line of an element, to be in the second cache; only its address is used, and may be anything."""
    address = tirx.address_of(tirx.BufferLoad(array, index))
    how = (tirx.const(each, "int32") for each in (_READ, _SECOND_CACHE, _DATA))
    return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", address, *how))
