"""Loops given to a tensor intrinsic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import s_tir

__all__ = ["tensorize"]


def tensorize(sch: s_tir.Schedule, loops: Sequence[Any], name: str) -> None:
    """Let an intrinsic do what the loops around a block do, which follow each other down to it.

    Those of one turn go outside: its description has none.
    """
    turning = [int(sch.get(loop).extent) > 1 for loop in loops]
    first = [loop for loop, turns in zip(loops, turning, strict=True) if turns]
    sch.reorder(*(loop for loop, turns in zip(loops, turning, strict=True) if not turns), *first)
    sch.tensorize(first[0], name)
