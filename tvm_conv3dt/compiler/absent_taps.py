"""Taps that a position does not have: skipped, not multiplied by zero."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, tirx

__all__ = ["skip_absent_taps"]

_IF_THEN_ELSE = ir.Op.get("prim.if_then_else")


def skip_absent_taps(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Turn ``sum += present ? product : 0`` into ``if present: sum += product``.

    TE has no statement for it. What LLVM makes of the first adds zeros, and multiplies and adds in two steps.
    """

    def store(each: tirx.BufferStore) -> Any:
        value = each.value
        if not isinstance(value, tirx.Add) or not _is_conditional(value.b):
            return each
        present, product, _ = value.b.args
        return tirx.IfThenElse(
            present, tirx.BufferStore(each.buffer, value.a + product, each.indices), None
        )

    return tvm_ffi.structural_map(function, [(tirx.BufferStore, store)])


def _is_conditional(value: Any) -> bool:
    return isinstance(value, ir.Call) and value.op.same_as(_IF_THEN_ELSE)
