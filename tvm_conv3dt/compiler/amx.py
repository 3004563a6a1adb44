"""Tensor intrinsics for AMX: products of bfloat16, added in float32, in the CPU's tile registers.

A tile register has 16 rows of 64 bytes. One instruction multiplies 16 rows of 32 elements with 16 pairs of rows of 16, and
adds the 16x16 products' sums to float32. Sums stay in registers, whose numbers are parts of the
instructions: so an intrinsic is for a whole tile of the schedule, some squares of it.

Each intrinsic is described by loops, which say what it computes on arrays in memory. The description is an implementation too, which
runs anywhere: the same schedule, the same packing. What is in registers then is in the arrays. Who sets up the registers:
`tvm_conv3dt.compiler.tile_registers`.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any, NamedTuple

from tvm import s_tir, tirx
from tvm.script.ir_builder import tirx as builder

from tvm_conv3dt.compiler.amx_instructions import CLEAR, LOAD, MULTIPLY, STORE, instruction
from tvm_conv3dt.compiler.descriptions import argument, described, implemented, loops
from tvm_conv3dt.compiler.elements import STORED_BFLOAT16, widen
from tvm_conv3dt.compiler.operand_registers import Product, piece_steps
from tvm_conv3dt.compiler.pieces import CORRECTIONS, PIECES
from tvm_conv3dt.compiler.unit_layout import DEPTH, REGISTERS, SQUARE

__all__ = [
    "ROW_BYTES",
    "TileIntrinsics",
    "register_rows",
    "tile_intrinsics",
]

ROW_BYTES = 64
_PAIRS = DEPTH // 2
_SUM_BYTES = 4


class TileIntrinsics(NamedTuple):
    """Names of the intrinsics of one size of tile.

    Attributes
    ----------
    clear, multiply : str
        Begin sums, and add products to them.
    store : str
        Stores each square of sums for itself.
    lay_out : str
        Stores them as squares of a matrix.
    correct : str
        Adds to sums the products of pieces that are corrections: see `tvm_conv3dt.compiler.pieces`.
    go_on : str
        Begins sums in the registers of the tile's others, which stay there: what is added then is added to these.
    store_both : str
        Stores each square of both, added up.
    """

    clear: str
    multiply: str
    store: str
    lay_out: str
    correct: str
    go_on: str
    store_both: str


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
        "lay_out": (_lay_out, _lay_out_tiles),
        "correct": (_correct, _correct_tiles),
        "go_on": (_clear, _go_on_with_tiles),
        "store_both": (_store_both, _store_both_tiles),
    }
    kind = "scalar" if scalar else "amx"
    names = {each: f"conv3d_transpose.{kind}_{each}.{rows}x{columns}" for each in made}
    for each, (describe, implement) in made.items():
        description = describe(rows, columns)
        implementation = description if scalar else implement(rows, columns)
        s_tir.TensorIntrin.register(names[each], description, implementation, override=True)
    return TileIntrinsics(**names)


def register_rows(rows: int, columns: int, left: int) -> list[int]:
    """Return how many rows each register needs for tiles whose left operands have only so many together.

    What an instruction does takes as long as there are rows. The others of a square are not made.
    """
    found = [SQUARE] * REGISTERS
    if rows > columns:  # left operands take turns
        return found
    for row in range(rows):
        needed = min(SQUARE, left - row * SQUARE)
        for number in (*range(row * columns, (row + 1) * columns), rows * columns + row):
            found[number] = needed
    return found


def _clear(rows: int, columns: int) -> Any:
    with described() as found:
        sums = _sums("c", rows, columns)
        with loops(sums, [], _sizes(rows, columns), "SSSS", CLEAR) as place:
            builder.buffer_store(sums, tirx.const(0, "float32"), place)
    return found.get()


def _multiply(rows: int, columns: int) -> Any:
    with described() as found:
        left = argument("a", (rows * SQUARE, DEPTH), STORED_BFLOAT16, "global")
        right = argument("b", (columns, _PAIRS, SQUARE, 2), STORED_BFLOAT16, "global")
        sums = _sums("c", rows, columns)
        sizes = (*_sizes(rows, columns), _PAIRS, 2)
        with loops(sums, [sums, left, right], sizes, "SSSSRR", MULTIPLY) as (mi, nb, i, v, k, e):
            factors = left[mi * SQUARE + i, k * 2 + e], right[nb, k, v, e]
            a, b = (widen(each, STORED_BFLOAT16) for each in factors)
            place = [mi, nb, i, v]
            builder.buffer_store(sums, sums[tuple(place)] + a * b, place)
    return found.get()


def _correct(rows: int, columns: int) -> Any:
    with described() as found:
        left, right = _pieces(rows, columns)
        sums = _sums("c", rows, columns)
        sizes = (*_sizes(rows, columns), _PAIRS, 2)
        with loops(sums, [sums, left, right], sizes, "SSSSRR", MULTIPLY) as (mi, nb, i, v, k, e):

            def product(p: int, q: int) -> Any:
                factors = left[p, mi * SQUARE + i, k * 2 + e], right[q, nb, k, v, e]
                a, b = (widen(each, STORED_BFLOAT16) for each in factors)
                return a * b

            first, *others = (product(p, q) for p, q in CORRECTIONS)
            place = [mi, nb, i, v]
            builder.buffer_store(sums, sums[tuple(place)] + sum(others, first), place)
    return found.get()


def _store(rows: int, columns: int) -> Any:
    with described() as found:
        sums, stored = _sums("c", rows, columns), _sums("s", rows, columns)
        with loops(stored, [sums], _sizes(rows, columns), "SSSS", STORE) as place:
            builder.buffer_store(stored, sums[tuple(place)], place)
    return found.get()


def _store_both(rows: int, columns: int) -> Any:
    with described() as found:
        sums, others = (_sums(name, rows, columns) for name in "cd")
        stored = _sums("s", rows, columns)
        with loops(stored, [sums, others], _sizes(rows, columns), "SSSS", STORE) as place:
            builder.buffer_store(stored, sums[tuple(place)] + others[tuple(place)], place)
    return found.get()


def _sizes(rows: int, columns: int) -> tuple[int, ...]:
    return rows, columns, SQUARE, SQUARE


def _clear_tiles(rows: int, columns: int) -> Any:
    with described() as found:
        sums = _sums("c", rows, columns)
        with implemented(sums, []):
            for number in range(rows * columns):
                _emit(CLEAR, number)
    return found.get()


def _go_on_with_tiles(rows: int, columns: int) -> Any:
    with described() as found, implemented(_sums("c", rows, columns), []):
        builder.evaluate(0)
    return found.get()


def _multiply_tiles(rows: int, columns: int) -> Any:
    with described() as found:
        strides = [tirx.Var("stride", "int32"), 1]
        left = argument("a", (rows * SQUARE, DEPTH), STORED_BFLOAT16, "global", strides)
        right = argument("b", (columns, _PAIRS, SQUARE, 2), STORED_BFLOAT16, "global")
        sums = _sums("c", rows, columns)
        with implemented(sums, [sums, left, right]):

            def load_left(number: int, row: int) -> None:
                _load(number, left[row * SQUARE, 0], strides[0] * 2)

            def load_right(number: int, column: int) -> None:
                _load(number, right[column, 0, 0, 0], _wide(ROW_BYTES))

            def multiply(row: int, column: int, a: int, b: int) -> None:
                _emit(MULTIPLY, row * columns + column, a, b)

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


def _correct_tiles(rows: int, columns: int) -> Any:
    with described() as found:
        strides = [tirx.Var(f"stride{axis}", "int32") for axis in range(2)]
        left, right = _pieces(rows, columns, [*strides, 1])
        sums = _sums("c", rows, columns)
        with implemented(sums, [sums, left, right]):
            for step in piece_steps(rows, columns):
                if isinstance(step, Product):
                    _emit(MULTIPLY, *step)
                    continue
                of_left, piece, square = step.operand
                if of_left:
                    _load(step.register, left[piece, square * SQUARE, 0], strides[1] * 2)
                else:
                    _load(step.register, right[piece, square, 0, 0, 0], _wide(ROW_BYTES))
    return found.get()


def _pieces(rows: int, columns: int, strides: Any = None) -> tuple[Any, Any]:
    """Return the arguments for all pieces of a tile's operands."""
    left = argument("a", (PIECES, rows * SQUARE, DEPTH), STORED_BFLOAT16, "global", strides)
    right = argument("b", (PIECES, columns, _PAIRS, SQUARE, 2), STORED_BFLOAT16, "global")
    return left, right


def _store_tiles(rows: int, columns: int, names: str = "c") -> Any:
    with described() as found:
        sums = [_sums(name, rows, columns) for name in names]
        stored = _sums("s", rows, columns)
        with implemented(stored, sums):
            for row, column in product(range(rows), range(columns)):
                place = stored[row, column, 0, 0]
                _store_tile(row * columns + column, place, _wide(ROW_BYTES))
    return found.get()


def _store_both_tiles(rows: int, columns: int) -> Any:
    return _store_tiles(rows, columns, "cd")  # which are the same registers


def _lay_out(rows: int, columns: int) -> Any:
    with described() as found:
        sums, stored = _sums("c", rows, columns), _matrix(rows, columns)
        with loops(stored, [sums], (rows, SQUARE, columns, SQUARE), "SSSS") as (mi, i, nb, v):
            builder.buffer_store(stored, sums[mi, nb, i, v], [mi, i, 0, nb, v])
    return found.get()


def _lay_out_tiles(rows: int, columns: int) -> Any:
    with described() as found:
        strides = [tirx.Var(f"stride{axis}", "int32") for axis in range(3)]
        sums, stored = _sums("c", rows, columns), _matrix(rows, columns, [*strides, SQUARE, 1])
        with implemented(stored, [sums]):
            for row, column in product(range(rows), range(columns)):
                place = stored[row, 0, 0, column, 0]
                _store_tile(row * columns + column, place, strides[1] * _SUM_BYTES)
    return found.get()


def _matrix(rows: int, columns: int, strides: Any = None) -> Any:
    """Return the argument for squares that stand in a matrix, tiles side by side."""
    return argument("m", (rows, SQUARE, 1, columns, SQUARE), "float32", "global", strides)


def _sums(name: str, rows: int, columns: int) -> Any:
    return argument(name, (rows, columns, SQUARE, SQUARE), "float32", "local")


def _load(number: int, element: Any, stride_bytes: Any) -> None:
    _emit(LOAD, number, _address(element), tirx.Cast("int64", stride_bytes))


def _store_tile(number: int, element: Any, stride_bytes: Any) -> None:
    _emit(STORE, number, _address(element), tirx.Cast("int64", stride_bytes))


def _address(element: Any) -> Any:
    return tirx.address_of(element)


def _wide(number: int) -> Any:
    return tirx.const(number, "int64")


def _emit(name: str, *operands: Any) -> None:
    builder.evaluate(instruction(name, *operands))
