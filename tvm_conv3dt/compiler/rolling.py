"""Planes that are made when they are first read, and kept only while they are read.

A schedule makes all that a task reads before it starts. Where the loops of both run over planes, and a step reads some
that follow each other, making and reading take turns instead, and the buffer is a ring of so many planes::

    for d < planes + span: make(d)              for d < planes + span:
    for q < planes: read(q, ..., q + span)  =>      make(d)
                                                    if d >= span: read(d - span, ..., d)
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import tvm_ffi
from tvm import ir, s_tir, tirx

from tvm_conv3dt.compiler.expressions import replaced

__all__ = ["ROLL", "roll_planes"]

ROLL = "conv3d_transpose.roll"
"""Annotation of a loop that makes planes, which the loop after it reads: ``"‹buffer› ‹axis› ‹span›"``, where `axis` is the
dimension of the buffer that the planes are, and `span` how many more than one a step reads."""


def roll_planes(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Roll the planes of a function whose loops say so; its blocks are opaque, and its buffers have their final sizes."""
    rings: dict[str, tuple[int, int]] = {}

    def visit(sequence: tirx.SeqStmt) -> Any:
        statements = list(sequence.seq)
        for place, (making, reading) in enumerate(pairwise(statements)):
            mark = making.annotations.get(ROLL) if isinstance(making, tirx.For) else None
            if mark is not None:
                name, axis, span = str(mark).split()
                rings[name] = int(axis), int(span)
                statements[place : place + 2] = [_taking_turns(making, reading, int(span))]
                break
        return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)

    function = function.with_body(tvm_ffi.structural_map(function.body, (tirx.SeqStmt, visit)))
    return _with_rings(function, rings) if rings else function


def _taking_turns(making: tirx.For, reading: tirx.For, span: int) -> tirx.For:
    plane = making.loop_var
    first = tirx.const(span, plane.ty.dtype)

    read = replaced(reading.body, [(reading.loop_var, plane - first)])
    if span:
        read = tirx.IfThenElse(plane >= first, read, None)
    body = tirx.SeqStmt([making.body, read])
    return tirx.For(plane, making.min, making.extent, making.kind, body)


def _with_rings(function: tirx.PrimFunc, rings: dict[str, tuple[int, int]]) -> tirx.PrimFunc:
    """Return the function with buffers of so many planes, that are used over and over."""
    buffers: list[tuple[Any, Any]] = []

    def allocated(block: s_tir.SBlock) -> None:
        for buffer in block.alloc_buffers:
            if buffer.name in rings:
                axis, span = rings[buffer.name]
                shape = list(buffer.shape)
                shape[axis] = tirx.const(span + 1, "int32")
                ring = tirx.decl_buffer(shape, buffer.dtype, buffer.name, scope=buffer.scope())
                buffers.append((buffer, ring))

    tvm_ffi.structural_walk(function.body, (s_tir.SBlock, allocated))

    def within(buffer: Any, indices: Any) -> list[Any]:
        axis, span = rings[buffer.name]
        return [
            tirx.floormod(index, span + 1) if number == axis else index
            for number, index in enumerate(indices)
        ]

    def load(each: ir.TensorLoad) -> Any:
        if each.source.name not in rings:
            return each
        return tirx.BufferLoad(each.source, within(each.source, each.indices))

    def store(each: tirx.BufferStore) -> Any:
        if each.buffer.name not in rings:
            return each
        return tirx.BufferStore(each.buffer, each.value, within(each.buffer, each.indices))

    body = tvm_ffi.structural_map(function.body, [(ir.TensorLoad, load), (tirx.BufferStore, store)])
    return replaced(function.with_body(body), buffers)
