"""Values that an expression uses several times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

__all__ = ["shared"]


def shared(name: str, dtype: str, value: Any, body: Callable[[Any], Any]) -> Any:
    """Return ``body(value)`` with the value in it once, however often it is used.

    TVM's passes see an expression as a tree: values made of values used twice take them exponential time, though LLVM
    computes each only once.

    Parameters
    ----------
    name : str
        What to call the value in TVM's code.
    dtype : str
        Of the value.
    value : Expr
    body : callable
        Takes a variable that stands for the value, and returns the expression.
    """
    variable = tirx.Var(name, dtype)
    return tirx.Let(variable, value, body(variable))
