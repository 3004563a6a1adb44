"""In which order a matrix unit's registers take the products of pieces that are corrections, for one step of a tile.

Sums stay in the first registers. In the others are squares of operands, each until another needs the register, which takes that
whose operand is used again the latest. So a tile of 2x2 squares loads 12 for 20 products.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import NamedTuple

from tvm_conv3dt.compiler.pieces import CORRECTIONS
from tvm_conv3dt.compiler.unit_layout import REGISTERS

__all__ = ["Load", "Product", "correction_steps"]


class Load(NamedTuple):
    """One square is loaded.

    Attributes
    ----------
    register : int
        Where to.
    left : bool
        Whether it is one of positions, else of channels.
    piece, square : int
        Which one.
    """

    register: int
    left: bool
    piece: int
    square: int


class Product(NamedTuple):
    """Two squares are multiplied, and added to sums; all three are numbers of registers."""

    sums: int
    left: int
    right: int


@cache
def correction_steps(rows: int, columns: int) -> tuple[Load | Product, ...]:
    """Return the steps for a tile of so many squares of positions and of channels."""
    products = [
        (row * columns + column, (True, p, row), (False, q, column))
        for (p, q), column, row in product(CORRECTIONS, range(columns), range(rows))
    ]
    uses = [operand for _, *operands in products for operand in operands]
    holds: dict[int, tuple[bool, int, int] | None]
    holds = dict.fromkeys(range(rows * columns, REGISTERS))
    last_use = dict.fromkeys(holds, -1)
    steps: list[Load | Product] = []

    def register(operand: tuple[bool, int, int], now: int) -> int:
        """Return the register with an operand of product number `now`, where it is loaded if need be."""
        if operand not in holds.values():
            later = uses[2 * now :]

            def idle(number: int) -> tuple[int, int]:
                """Return when what a register holds is used again, if ever, and for how long it was not."""
                held = holds[number]
                next_use = later.index(held) if held in later else len(uses)
                return next_use, now - last_use[number]

            free = max(holds, key=idle)
            holds[free] = operand
            steps.append(Load(free, *operand))
        number = next(each for each, held in holds.items() if held == operand)
        last_use[number] = now
        return number

    for now, (sums, left, right) in enumerate(products):
        steps.append(Product(sums, register(left, now), register(right, now)))
    return tuple(steps)
