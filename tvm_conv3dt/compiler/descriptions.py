"""Loops that describe a tensor intrinsic, written by TVM's builder, so that sizes are Python's numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as builder

__all__ = ["STANDS_FOR", "argument", "described", "implemented", "loops", "whole"]

STANDS_FOR = "pragma_conv3d_transpose.stands_for"
"""Annotation of loops: the instruction that they are instead of."""


@contextmanager
def described() -> Iterator[IRBuilder]:
    """Open a function; yield what has it when it is complete: ``found.get()``."""
    with IRBuilder() as found, builder.prim_func(s_tir=True):
        yield found


@contextmanager
def implemented(written: Any, read: list[Any]) -> Iterator[None]:
    """Open the block of a function that has no loops to tell what it does."""
    with builder.sblock("root"):
        builder.reads([whole(each) for each in read])
        builder.writes([whole(written)])
        yield


@contextmanager
def loops(
    written: Any, read: list[Any], sizes: tuple[int, ...], kinds: str, instruction: str = ""
) -> Iterator[list[Any]]:
    """Open loops and a block that describe something; yield its axes, of which `kinds` says ``"S"`` or ``"R"``.

    A loop of one turn is none: a schedule's own is not compared with it. Passes take the loops for the `instruction`.
    """
    with implemented(written, read):
        if instruction:
            builder.sblock_attr({STANDS_FOR: instruction})
        turns = [size for size in sizes if size > 1]
        with builder.grid(*turns) as variables, builder.sblock("described"):
            bound = iter(variables if len(turns) > 1 else [variables])
            axes = {"S": builder.axis.spatial, "R": builder.axis.reduce}
            yield [
                axes[kind](size, next(bound)) if size > 1 else tirx.const(0, "int32")
                for kind, size in zip(kinds, sizes, strict=True)
            ]


def argument(name: str, shape: tuple[int, ...], dtype: str, scope: str, strides: Any = None) -> Any:
    """Return the next argument: an array anywhere in another."""
    handle = builder.arg(name, tirx.Var(name, "handle"))
    options = {} if strides is None else {"strides": strides}
    return builder.match_buffer(handle, shape, dtype, offset_factor=1, scope=scope, **options)


def whole(buffer: Any) -> Any:
    """Return all of an array."""
    return buffer[tuple(slice(0, int(extent)) for extent in buffer.shape)]
