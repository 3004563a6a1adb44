"""Expressions of the compiler with some variables given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm_ffi
from tvm import sym, tirx

__all__ = ["at"]


def at(expression: Any, values: Mapping[Any, int]) -> Any:
    """Return an integer expression, simplified, with variables replaced by the numbers that `values` gives them."""

    def substitute(each: tirx.Var) -> Any:
        number = next((n for variable, n in values.items() if each.same_as(variable)), None)
        return each if number is None else tirx.const(number, each.ty.dtype)

    return sym.Analyzer().simplify(tvm_ffi.structural_map(expression, [(tirx.Var, substitute)]))
