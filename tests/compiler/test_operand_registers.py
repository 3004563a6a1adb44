"""Does each product of pieces find its operands in registers, and are few of them loaded?"""

from itertools import product

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt.compiler.operand_registers import Load, piece_steps, register_steps
from tvm_conv3dt.compiler.pieces import CORRECTIONS
from tvm_conv3dt.compiler.spaces.tile_nest import SPLIT_TILES
from tvm_conv3dt.compiler.unit_layout import REGISTERS


@pytest.mark.parametrize(("rows", "columns"), SPLIT_TILES)
def test_every_product_is_made_once(rows, columns):
    holds, made = {}, []
    for step in piece_steps(rows, columns):
        if isinstance(step, Load):
            assert rows * columns <= step.register < REGISTERS
            holds[step.register] = step.operand
        else:
            left, right = holds[step.left], holds[step.right]
            assert (left.left, right.left) == (True, False)
            assert step.sums == left.square * columns + right.square
            made.append((left.piece, right.piece, left.square, right.square))
    wanted = product(CORRECTIONS, range(rows), range(columns))
    assert sorted(made) == sorted((p, q, row, column) for (p, q), row, column in wanted)


@pytest.mark.parametrize(("rows", "columns", "loads"), [(1, 1, 6), (2, 2, 12), (3, 1, 12)])
def test_neighbours_share_what_is_loaded(rows, columns, loads):
    assert sum(isinstance(each, Load) for each in piece_steps(rows, columns)) == loads


def test_first_pieces_come_last_and_need_few_more():
    steps = piece_steps(2, 2, (*CORRECTIONS, (0, 0)))
    assert sum(isinstance(each, Load) for each in steps) == 14


def test_registers_take_turns():
    """A load into one that was read just before would wait."""
    first = [each.register for each in piece_steps(2, 2) if isinstance(each, Load)][:4]
    assert len(set(first)) == 4


def test_what_is_used_again_first_stays():
    products = [(0, "a", "b"), (1, "c", "b"), (2, "a", "d")]
    steps = register_steps(products, [5, 6, 7])
    assert [each.operand for each in steps if isinstance(each, Load)] == ["a", "b", "c", "d"]
