"""Tensor intrinsics for AMX: products of bfloat16, added in float32, in the CPU's tile registers.

A tile register has 16 rows of 64 bytes. One instruction multiplies 16 rows of 32 elements with 16 pairs of rows of 16, and
adds the 16x16 products' sums to float32. Sums stay in registers, whose numbers are parts of the
instructions: so an intrinsic is for a whole tile of the schedule, some squares of it.

Each intrinsic is described by loops, which say what it computes on arrays in memory. The description is an implementation too, which
runs anywhere: the same schedule, the same packing. What is in registers then is in the arrays. Who sets up the registers:
`tvm_conv3dt.compiler.tile_registers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from tvm import s_tir, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as builder

from tvm_conv3dt.compiler.elements import STORED_BFLOAT16, widen
from tvm_conv3dt.compiler.tile_layout import DEPTH, SQUARE

__all__ = ["REGISTERS", "ROW_BYTES", "TileIntrinsics", "instruction", "tile_intrinsics"]

REGISTERS = 8
ROW_BYTES = 64
_PAIRS = DEPTH // 2


class TileIntrinsics(NamedTuple):
    """Names of the intrinsics of one size of tile."""

    clear: str
    multiply: str
    store: str


@cache
def tile_intrinsics(rows: int, columns: int, scalar: bool = False) -> TileIntrinsics:
    """Return the names of the intrinsics for so many squares of positions and channels, which are registered now.

    Parameters
    ----------
    rows, columns : int
        Squares. All sums, and operands of one row or column beside one more, must fit 8 registers.
    scalar : bool
        Whether they are to be loops, for machines without the instructions.
    """
    assert rows * columns + min(rows, columns) < REGISTERS
    made = {
        "clear": (_clear, _clear_tiles),
        "multiply": (_multiply, _multiply_tiles),
        "store": (_store, _store_tiles),
    }
    kind = "scalar" if scalar else "amx"
    names = {each: f"conv3d_transpose.{kind}_{each}.{rows}x{columns}" for each in made}
    for each, (describe, implement) in made.items():
        description = describe(rows, columns)
        implementation = description if scalar else implement(rows, columns)
        s_tir.TensorIntrin.register(names[each], description, implementation, override=True)
    return TileIntrinsics(**names)


def _clear(rows: int, columns: int) -> Any:
    with _described() as found:
        sums = _sums("c", rows, columns)
        with _loops(_whole(sums), [], _sizes(rows, columns), "SSSS") as place:
            builder.buffer_store(sums, tirx.const(0, "float32"), place)
    return found.get()


def _multiply(rows: int, columns: int) -> Any:
    with _described() as found:
        left = _argument("a", (rows * SQUARE, DEPTH), STORED_BFLOAT16, "global")
        right = _argument("b", (columns, _PAIRS, SQUARE, 2), STORED_BFLOAT16, "global")
        sums = _sums("c", rows, columns)
        read = [_whole(sums), _whole(left), _whole(right)]
        sizes = (*_sizes(rows, columns), _PAIRS, 2)
        with _loops(_whole(sums), read, sizes, "SSSSRR") as (mi, nb, i, v, k, e):
            factors = left[mi * SQUARE + i, k * 2 + e], right[nb, k, v, e]
            a, b = (widen(each, STORED_BFLOAT16) for each in factors)
            place = [mi, nb, i, v]
            builder.buffer_store(sums, sums[tuple(place)] + a * b, place)
    return found.get()


def _store(rows: int, columns: int) -> Any:
    with _described() as found:
        sums, stored = _sums("c", rows, columns), _sums("s", rows, columns)
        with _loops(_whole(stored), [_whole(sums)], _sizes(rows, columns), "SSSS") as place:
            builder.buffer_store(stored, sums[tuple(place)], place)
    return found.get()


def _sizes(rows: int, columns: int) -> tuple[int, ...]:
    return rows, columns, SQUARE, SQUARE


@contextmanager
def _described() -> Iterator[IRBuilder]:
    with IRBuilder() as found, builder.prim_func(s_tir=True):
        yield found


@contextmanager
def _loops(
    written: Any, read: list[Any], sizes: tuple[int, ...], kinds: str
) -> Iterator[list[Any]]:
    """Open loops and a block that describe something; yield its axes.

    A loop of one turn is none: a schedule's own is not compared with it.
    """
    with builder.sblock("root"):
        builder.reads(read)
        builder.writes([written])
        turns = [size for size in sizes if size > 1]
        with builder.grid(*turns) as variables, builder.sblock("described"):
            bound = iter(variables if len(turns) > 1 else [variables])
            axes = {"S": builder.axis.spatial, "R": builder.axis.reduce}
            yield [
                axes[kind](size, next(bound)) if size > 1 else tirx.const(0, "int32")
                for kind, size in zip(kinds, sizes, strict=True)
            ]


def _clear_tiles(rows: int, columns: int) -> Any:
    with IRBuilder() as found:
        with builder.prim_func(s_tir=True):
            sums = _sums("c", rows, columns)
            with builder.sblock("root"):
                builder.reads([])
                builder.writes([_whole(sums)])
                for number in range(rows * columns):
                    _emit("tilezero", number)
    return found.get()


def _multiply_tiles(rows: int, columns: int) -> Any:
    with IRBuilder() as found:
        with builder.prim_func(s_tir=True):
            strides = [tirx.Var("stride", "int32"), 1]
            left = _argument("a", (rows * SQUARE, DEPTH), STORED_BFLOAT16, "global", strides)
            right = _argument("b", (columns, _PAIRS, SQUARE, 2), STORED_BFLOAT16, "global")
            sums = _sums("c", rows, columns)
            with builder.sblock("root"):
                builder.reads([_whole(sums), _whole(left), _whole(right)])
                builder.writes([_whole(sums)])

                def load_left(number: int, row: int) -> None:
                    _load(number, left[row * SQUARE, 0], strides[0] * 2)

                def load_right(number: int, column: int) -> None:
                    _load(number, right[column, 0, 0, 0], tirx.const(ROW_BYTES, "int32"))

                def multiply(row: int, column: int, a: int, b: int) -> None:
                    _emit("tdpbf16ps", row * columns + column, a, b)

                kept = rows * columns  # first register of the operand that has fewer squares
                turning = list(range(kept + min(rows, columns), REGISTERS))
                if rows <= columns:
                    for column in range(columns):
                        b = turning[column % len(turning)]
                        load_right(b, column)
                        for row in range(rows):
                            if column == 0:
                                load_left(kept + row, row)
                            multiply(row, column, kept + row, b)
                else:
                    for row in range(rows):
                        a = turning[row % len(turning)]
                        load_left(a, row)
                        for column in range(columns):
                            if row == 0:
                                load_right(kept + column, column)
                            multiply(row, column, a, kept + column)
    return found.get()


def _store_tiles(rows: int, columns: int) -> Any:
    with IRBuilder() as found:
        with builder.prim_func(s_tir=True):
            sums, stored = _sums("c", rows, columns), _sums("s", rows, columns)
            with builder.sblock("root"):
                builder.reads([_whole(sums)])
                builder.writes([_whole(stored)])
                for row in range(rows):
                    for column in range(columns):
                        place = _address(stored[row, column, 0, 0])
                        _emit("tilestored64", row * columns + column, place, _wide(ROW_BYTES))
    return found.get()


def _argument(
    name: str, shape: tuple[int, ...], dtype: str, scope: str, strides: Any = None
) -> Any:
    handle = builder.arg(name, tirx.Var(name, "handle"))
    options = {} if strides is None else {"strides": strides}
    return builder.match_buffer(handle, shape, dtype, offset_factor=1, scope=scope, **options)


def _sums(name: str, rows: int, columns: int) -> Any:
    return _argument(name, (rows, columns, SQUARE, SQUARE), "float32", "local")


def _whole(buffer: Any) -> Any:
    return buffer[tuple(slice(0, int(extent)) for extent in buffer.shape)]


def _load(number: int, element: Any, stride_bytes: Any) -> None:
    _emit("tileloadd64", number, _address(element), tirx.Cast("int64", stride_bytes))


def _address(element: Any) -> Any:
    return tirx.address_of(element)


def _wide(number: int) -> Any:
    return tirx.const(number, "int64")


def _emit(name: str, *operands: Any) -> None:
    builder.evaluate(instruction(name, *operands))


def instruction(name: str, *operands: Any) -> Any:
    """Return a call of one of AMX's instructions; numbers of registers are ints."""
    words = [tirx.const(each, "uint8") if isinstance(each, int) else each for each in operands]
    return tirx.call_llvm_intrin("void", f"llvm.x86.{name}", *words)
