"""Has every sum and operand a register of its own, and is what is packed the same without the unit?"""

import re
from dataclasses import replace

import pytest

tvm = pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.amx import register_rows, tile_intrinsics
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.spaces.tile_nest import TILES
from tvm_conv3dt.spec import Workload

UNIT = catalogue.get("x86-64-v4-amx")


def code(built, squares):
    """The machine code of a kernel with so many squares in a tile."""
    workload = Workload.make(
        (1, 2, 4, 4, 32), (1, 2, 2, 64, 32), (1, 2, 8, 8, 64), (1, 2, 2), dtype="bfloat16"
    )
    rows, columns = squares
    point = Point(f"amx-{rows}x{columns}-phases", "rows", columns, rows)
    return built(workload, UNIT, point).module.mod.inspect_source("s")


def of_instruction(name, source):
    return re.findall(rf"^\s+{name}\b.*$", source, re.MULTILINE)


@pytest.mark.parametrize("squares", TILES)
def test_every_operand_has_a_register_of_its_own(squares, built):
    rows, columns = squares
    source = code(built, squares)
    products = {
        tuple(map(int, re.findall(r"tmm(\d)", each)))
        for each in of_instruction("tdpbf16ps", source)
    }
    sums = {each[2] for each in products}
    operands = {register for each in products for register in each[:2]}
    assert sums == set(range(rows * columns))
    assert not sums & operands
    assert max(operands) < 8


def test_tile_that_needs_more_registers_is_refused():
    with pytest.raises(AssertionError):
        tile_intrinsics(2, 3, scalar=True)


def test_scalar_intrinsics_have_names_of_their_own():
    assert not set(tile_intrinsics(1, 1)) & set(tile_intrinsics(1, 1, scalar=True))


def test_packed_filters_do_not_depend_on_the_unit(built):
    workload = Workload.make(
        (1, 1, 4, 4, 32), (1, 2, 2, 16, 32), (1, 1, 8, 8, 16), (1, 2, 2), dtype="bfloat16"
    )
    point = Point("amx-1x1-phases", "rows", 1)
    without = replace(UNIT, cpu_features=())
    shapes = {built(workload, each, point).packed_shape for each in (UNIT, without)}
    assert shapes == {(1, 1, 2, 2, 1, 1, 16, 16, 2)}


def test_registers_have_the_rows_that_their_operands_have():
    # Sums of one square of filters by four of positions, the filters, and positions.
    assert register_rows(1, 4, 9) == [9, 9, 9, 9, 9, 16, 16, 16]
    assert register_rows(2, 2, 27) == [16, 16, 11, 11, 16, 11, 16, 16]


def test_operands_that_take_turns_are_whole():
    assert register_rows(4, 1, 50) == [16] * 8
