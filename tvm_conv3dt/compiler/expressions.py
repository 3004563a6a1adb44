"""Expressions, and what has them, with other terms in the place of variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tvm_ffi
from tvm import ir, sym, tirx

__all__ = ["at", "mentions", "pick", "replaced"]


def at(expression: Any, values: Mapping[Any, int]) -> Any:
    """Return an integer expression, simplified, with variables replaced by the numbers that `values` gives them."""
    pairs = [(each, tirx.const(number, each.ty.dtype)) for each, number in values.items()]
    return sym.Analyzer().simplify(replaced(expression, pairs))


def replaced(part: Any, pairs: Sequence[tuple[Any, Any]]) -> Any:
    """Return an expression, a statement or a function with the first variable, or buffer, of each pair replaced by the second."""
    new = dict(pairs)

    def replace(each: ir.Var) -> Any:
        return new.get(each, each)

    return tvm_ffi.structural_map(part, (ir.Var, replace))


def mentions(part: Any, variable: Any) -> bool:
    """Whether a variable is in an expression or a statement."""
    found = False

    def visit(each: ir.Var) -> None:
        nonlocal found
        found = found or each.same_as(variable)

    tvm_ffi.structural_walk(part, (ir.Var, visit))
    return found


def pick(index: Any, values: Sequence[Any]) -> Any:
    """Return the one of `values` that an expression is the number of."""
    *others, found = values
    for number, value in reversed(list(enumerate(others))):
        found = tirx.Select(index == number, value, found)
    return found
