"""A tile's results, stored while the unit multiplies for the next one.

A tile's sums are complete when its last product is, and a CPU looks no further ahead than some hundred instructions: bias, activation and
stores of one tile are more than that, and the matrix unit would rest meanwhile. So a task keeps the sums, notes which tile they are of,
and stores some rows of them among the products of the next tile. The last tile's follow at the end::

    for tile:                            for tile:
        for step: multiply                   for step: multiply, and store some rows of what is noted
        sums = ...                  =>       store its other rows
        for row: store                       sums = ...; note tile
                                         store all rows of what is noted
"""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import tirx

from tvm_conv3dt.compiler.amx_instructions import MULTIPLY, STORE, is_a, uses
from tvm_conv3dt.compiler.expressions import mentions, replaced
from tvm_conv3dt.compiler.tile_loops import TileLoop, in_tasks, nested, product_nest

__all__ = ["defer_stores"]

_PRODUCTS = 6  # that take about as long as rows of results between them


def defer_stores(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Let tasks of a lowered function store a tile's results while they make the next one's sums."""
    return in_tasks(function, _deferred)


def _deferred(task: Any, tile: TileLoop) -> Any:
    around = [each.loop_var for each in (*tile.around, tile.loop)]
    pending = _Pending(tile.store, [each for each in around if mentions(tile.store, each)])
    stored = next(n for n, each in enumerate(tile.sums) if uses(each, STORE))
    products = [each for step in tile.sums[:stored] for each in pending.among(step)]
    body = tirx.SeqStmt([*products, *pending.rest(), *tile.sums[stored:], *pending.note()])
    task = tile.with_body(task, body)
    return tirx.SeqStmt([*tile.allocations, *pending.begin(), task, *pending.rest()])


class _Pending:
    """The rows of a tile that are not stored yet.

    Notes in memory, which become registers, say which is the next row, how many are stored at once, and the values that variables of loops
    had for the tile.
    """

    def __init__(self, store: tirx.For, outer: list[Any]) -> None:
        self._outer = outer
        self._notes = tirx.decl_buffer((2 + len(outer),), "int32", "pending", scope="local")
        self._rows: list[tuple[Any, int]] = []
        body: Any = store
        while isinstance(body, tirx.For) and body.kind == tirx.ForKind.SERIAL:
            self._rows.append((body.loop_var, int(body.extent)))
            body = body.body
        self._body = body
        self._count = prod(extent for _, extent in self._rows)

    def begin(self) -> list[Any]:
        """Return what says that nothing is pending."""
        others = (self._noted(n + 1, 0) for n in range(len(self._outer) + 1))
        return [tirx.AllocBuffer(self._notes), self._noted(0, self._count), *others]

    def note(self) -> list[Any]:
        """Return what says that all of this tile is."""
        values = (tirx.Cast("int32", var) for var in self._outer)
        return [self._noted(0, 0), *(self._noted(n + 2, value) for n, value in enumerate(values))]

    def rest(self) -> list[Any]:
        """Return what stores the rows that are left."""
        return [*self._stores(self._count - self._next()), self._noted(0, self._count)]

    def among(self, step: Any) -> list[Any]:
        """Return a step of a tile; where it is loops over products, with stores of some rows after some products each."""
        nest = product_nest(step)
        if nest is None:
            return [step]
        loops, steps = nest
        groups = _groups(steps)
        turns = prod((loop.extent for loop in loops), start=tirx.const(len(groups), "int32"))
        # Noted here, as in the loops TVM knows that they take a turn; a phase without taps takes none.
        turns = tirx.Cast("int32", tirx.max(turns, 1))
        share = self._noted(1, tirx.floordiv(self._count - 1 + turns, turns))
        stores = self._some(self._note(1))
        return [share, nested(loops, [each for group in groups for each in (*group, stores)])]

    def _some(self, share: Any) -> Any:
        """Return what stores so many rows, if there are some."""
        count = tirx.min(share, self._count - self._next())
        stores = [*self._stores(count), self._noted(0, self._next() + count)]
        return tirx.IfThenElse(self._next() < self._count, tirx.SeqStmt(stores), None)

    def _stores(self, count: Any) -> list[Any]:
        row = tirx.Var("row", "int32")
        left, pairs = self._next() + row, []
        for variable, extent in reversed(self._rows):
            pairs.append((variable, _as(tirx.floormod(left, extent), variable)))
            left = tirx.floordiv(left, extent)
        for number, variable in enumerate(self._outer):
            pairs.append((variable, _as(self._note(number + 2), variable)))
        body = replaced(self._body, pairs)
        return [tirx.For(row, tirx.const(0, "int32"), count, tirx.ForKind.SERIAL, body)]

    def _next(self) -> Any:
        return self._note(0)

    def _note(self, place: int) -> Any:
        return tirx.BufferLoad(self._notes, [tirx.const(place, "int32")])

    def _noted(self, place: int, value: Any) -> Any:
        return tirx.BufferStore(self._notes, tirx.convert(value), [tirx.const(place, "int32")])


def _groups(steps: list[Any]) -> list[list[Any]]:
    """Return the steps in groups of some products each."""
    groups: list[list[Any]] = [[]]
    products = 0
    for step in steps:
        if products == _PRODUCTS:
            groups.append([])
            products = 0
        groups[-1].append(step)
        products += is_a(step, MULTIPLY)
    return groups


def _as(value: Any, variable: Any) -> Any:
    dtype = variable.ty.dtype
    return value if dtype == "int32" else tirx.Cast(dtype, value)
