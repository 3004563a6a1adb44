"""AMX's instructions, and statements of lowered functions that are such, or loops that stand for them."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, tirx
from tvm.target import codegen

from tvm_conv3dt.compiler.descriptions import STANDS_FOR

__all__ = [
    "CLEAR",
    "LOAD",
    "MULTIPLY",
    "STORE",
    "arguments",
    "instruction",
    "is_a",
    "uses",
]

CLEAR, LOAD, MULTIPLY, STORE = "tilezero", "tileloadd64", "tdpbf16ps", "tilestored64"

_LLVM = ir.Op.get("tirx.call_llvm_intrin")


def instruction(name: str, *operands: Any) -> Any:
    """Return a call of one of AMX's instructions; numbers of registers are ints."""
    words = [tirx.const(each, "uint8") if isinstance(each, int) else each for each in operands]
    return tirx.call_llvm_intrin("void", f"llvm.x86.{name}", *words)


def is_a(step: Any, name: str) -> bool:
    """Whether a statement is an instruction, or loops that stand for it."""
    if isinstance(step, tirx.AttrStmt):
        return bool(step.attr_key == STANDS_FOR and step.value == name)
    return isinstance(step, tirx.Evaluate) and _calls(step.value, name)


def arguments(step: tirx.Evaluate) -> list[Any]:
    """Return the operands of a statement that is an instruction."""
    return list(step.value.args[1:])


def uses(part: Any, name: str, really: bool = False) -> bool:
    """Whether there is an instruction in a part of a function; `really` leaves out what only stands for it."""
    found = False

    def visit(step: Any) -> None:
        nonlocal found
        found = found or is_a(step, name)

    kinds = [tirx.Evaluate] if really else [tirx.Evaluate, tirx.AttrStmt]
    tvm_ffi.structural_walk(part, [(kind, visit) for kind in kinds])
    return found


def _calls(value: Any, name: str) -> bool:
    number = codegen.llvm_lookup_intrinsic_id(f"llvm.x86.{name}")
    return isinstance(value, ir.Call) and value.op.same_as(_LLVM) and int(value.args[0]) == number
