"""One loop over the products of pieces, where there were two: over corrections, and over the products of first pieces.

Both add to the same registers (`tvm_conv3dt.compiler.pieces`), and what both read is in registers, or in the nearest cache, the second
time. Corrections are small, and added to a sum that is not complete they are rounded as it is. But one instruction adds 32 products among themselves
first, and rounds a register's sum once: six times for 32 products of float32, where vectors' multiply-adds round it 32 times.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import tvm_ffi
from tvm import tirx

from tvm_conv3dt.compiler.amx_instructions import (
    LOAD,
    MULTIPLY,
    arguments,
    instruction,
    is_a,
)
from tvm_conv3dt.compiler.expressions import replaced
from tvm_conv3dt.compiler.operand_registers import Load, register_steps
from tvm_conv3dt.compiler.tile_loops import steps_of
from tvm_conv3dt.compiler.unit_layout import REGISTERS

__all__ = ["join_products"]


def join_products(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Join loops of a lowered function that follow each other, take the same turns, and only multiply."""

    def visit(sequence: tirx.SeqStmt) -> Any:
        steps = list(sequence.seq)
        for place, (first, second) in enumerate(pairwise(steps)):
            joined = _joined(first, second)
            if joined is not None:
                steps[place : place + 2] = [joined]
                break
        return steps[0] if len(steps) == 1 else tirx.SeqStmt(steps)

    return tvm_ffi.structural_map(function, (tirx.SeqStmt, visit))


def _joined(first: Any, second: Any) -> Any | None:
    """Return the loops over both bodies, if two steps are such loops."""
    loops = [each for each in (first, second) if isinstance(each, tirx.For)]
    if len(loops) < 2 or not tvm_ffi.structural_equal(first.extent, second.extent):
        return None
    bodies = first.body, replaced(second.body, [(second.loop_var, first.loop_var)])
    if any(isinstance(each, tirx.For) for each in bodies):
        body = _joined(*bodies)
    else:
        body = _multiplied([*steps_of(bodies[0]), *steps_of(bodies[1])])
    if body is None:
        return None
    return tirx.For(first.loop_var, first.min, first.extent, first.kind, body)


def _multiplied(steps: list[Any]) -> Any | None:
    """Return steps that are nothing but products, and loads, with operands that stay in registers while they are used."""
    if all(is_a(each, MULTIPLY) and isinstance(each, tirx.AttrStmt) for each in steps):
        return tirx.SeqStmt(steps)
    operands: list[Any] = []  # their loads' arguments
    holds: dict[int, int] = {}
    products = []
    for step in steps:
        if is_a(step, LOAD):
            register, *operand = arguments(step)
            same = (n for n, each in enumerate(operands) if tvm_ffi.structural_equal(each, operand))
            holds[int(register)] = number = next(same, len(operands))
            operands += [operand] * (number == len(operands))
        elif is_a(step, MULTIPLY) and isinstance(step, tirx.Evaluate):
            sums, left, right = map(int, arguments(step))
            products.append((sums, holds[left], holds[right]))
        else:
            return None
    free = sorted(set(range(REGISTERS)) - {sums for sums, _, _ in products})
    made = []
    for step in register_steps(products, free):
        if isinstance(step, Load):
            made.append(instruction(LOAD, step.register, *operands[step.operand]))
        else:
            made.append(instruction(MULTIPLY, *step))
    return tirx.SeqStmt([tirx.Evaluate(each) for each in made])
