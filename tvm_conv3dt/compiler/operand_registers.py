"""Which registers of a matrix unit hold the operands of a step's products, where these are more than registers.

Sums stay in the first registers. In the others are squares of operands, each until another needs the register, which takes that
whose operand is used again the latest. So a tile of 2x2 squares loads 12 for the 20 products of pieces that are corrections, and 14
for them and the 4 of first pieces.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

from tvm_conv3dt.compiler.pieces import CORRECTIONS
from tvm_conv3dt.compiler.unit_layout import REGISTERS

__all__ = ["Load", "Operand", "Product", "piece_steps", "register_steps"]


class Operand(NamedTuple):
    """One square of one piece.

    Attributes
    ----------
    left : bool
        Whether it is one of positions, else of channels.
    piece, square : int
        Which one.
    """

    left: bool
    piece: int
    square: int


class Load(NamedTuple):
    """An operand is loaded into a register."""

    register: int
    operand: Any


class Product(NamedTuple):
    """Two operands are multiplied, and added to sums; all three are numbers of registers."""

    sums: int
    left: int
    right: int


def register_steps(
    products: Sequence[tuple[int, Hashable, Hashable]], registers: Iterable[int]
) -> tuple[Load | Product, ...]:
    """Return the steps that make products, in their order, each with a register of sums and two operands in `registers`."""
    uses = [operand for _, *operands in products for operand in operands]
    holds: dict[int, Hashable | None] = dict.fromkeys(registers)
    last_use = dict.fromkeys(holds, -1)
    steps: list[Load | Product] = []

    def register(operand: Hashable, now: int) -> int:
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
            steps.append(Load(free, operand))
        number = next(each for each, held in holds.items() if held == operand)
        last_use[number] = now
        return number

    for now, (sums, left, right) in enumerate(products):
        steps.append(Product(sums, register(left, now), register(right, now)))
    return tuple(steps)


@cache
def piece_steps(
    rows: int, columns: int, pairs: tuple[tuple[int, int], ...] = CORRECTIONS
) -> tuple[Load | Product, ...]:
    """Return the steps for products of pairs of pieces, for a tile of so many squares of positions and of channels; operands are of `Operand`."""
    products = [
        (row * columns + column, Operand(True, p, row), Operand(False, q, column))
        for (p, q), column, row in product(pairs, range(columns), range(rows))
    ]
    return register_steps(products, range(rows * columns, REGISTERS))
