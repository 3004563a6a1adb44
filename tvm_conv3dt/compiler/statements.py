"""Statements of scheduled functions, whose blocks are still there: what passes look for, and what they add."""

from __future__ import annotations

from typing import Any

from tvm import s_tir, tirx

__all__ = ["inside", "opaque"]


def inside(statement: Any) -> tuple[Any, dict[Any, int]]:
    """Return what the loops around a statement's innermost have in them, and the loops' variables, each at its start, 0."""
    loops = {}
    while isinstance(statement, tirx.For):
        loops[statement.loop_var] = 0
        statement = statement.body
    return statement, loops


def opaque(name: str, reads: list[Any], writes: list[Any], body: Any) -> s_tir.SBlockRealize:
    """Return a block without axes, of what the loops around it say; `reads` and `writes` are regions."""
    return s_tir.SBlockRealize([], True, s_tir.SBlock([], reads, writes, name, body))
