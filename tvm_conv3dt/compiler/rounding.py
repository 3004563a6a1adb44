"""Casts to bfloat16: by an instruction where the target has one for vectors, else by integer arithmetic.

The instruction takes numbers below the normal ones of float32 for zero.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import ir, tirx

from tvm_conv3dt.compiler.elements import STORED_BFLOAT16, narrow

__all__ = ["round_to_bfloat16"]

_FEATURE = "+avx512bf16"
_INSTRUCTIONS = {lanes: f"llvm.x86.avx512bf16.cvtneps2bf16.{32 * lanes}" for lanes in (8, 16)}


def round_to_bfloat16(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Replace casts to bfloat16, which are reinterpreted as uint16, in a function whose loops are vectors."""
    target = function.attrs.get("target") if function.attrs else None
    has = target is not None and _FEATURE in list(target.attrs.get("mattr", []))

    def reinterpret(call: ir.Call) -> Any:
        if not isinstance(call.args[0], tirx.Cast) or "bfloat16" not in str(call.args[0].ty.dtype):
            return call
        value = call.args[0].value
        lanes = int(tvm.DataType(value.ty.dtype).lanes)
        if not has or lanes not in _INSTRUCTIONS:
            return narrow(value, STORED_BFLOAT16, lanes)
        # TVM's code generator has no type for bfloat16; the value, which has LLVM's, is only reinterpreted.
        rounded = tirx.call_llvm_pure_intrin(f"float16x{lanes}", _INSTRUCTIONS[lanes], value)
        return tirx.reinterpret(f"{STORED_BFLOAT16}x{lanes}", rounded)

    def visit(call: ir.Call) -> Any:
        is_reinterpret = str(getattr(call.op, "name", "")).endswith("reinterpret")
        return reinterpret(call) if is_reinterpret else call

    return tvm_ffi.structural_map(function, (ir.Call, visit))
