"""Are the products of pieces made in one loop, with operands that stay in registers?"""

import re

import pytest

tvm = pytest.importorskip("tvm")

import tvm_ffi
from tvm import tirx

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.descriptions import STANDS_FOR
from tvm_conv3dt.compiler.joining import join_products
from tvm_conv3dt.compiler.spaces.point import Point

from .geometries import evenly


def test_one_loop_loads_14_squares_for_24_products(built):
    device = catalogue.get("x86-64-v4-amx")
    workload = evenly((1024, 32), kernel=1, stride=1, width=17)
    kernel = built(workload, device, Point("amx-split-2x2-phases", "rows", 2, 2))
    source = kernel.module.mod.inspect_source("s")
    tile = source[source.index("tilezero") : source.index("tilestored")]
    assert len(re.findall("tileload", tile)) == 14
    assert len(re.findall("tdpbf16ps", tile)) == 24


def looping(turns, number):
    """A loop that stands for products, and says its number."""
    said = tirx.Evaluate(tirx.const(number, "int32"))
    body = tirx.AttrStmt(tirx.const(0, "int32"), STANDS_FOR, tvm.ir.StringImm("tdpbf16ps"), said)
    return tirx.For(tirx.Var("k", "int32"), 0, turns, tirx.ForKind.SERIAL, body)


def loops(function):
    found = []
    tvm_ffi.structural_walk(function, (tirx.For, found.append))
    return found


@pytest.mark.parametrize(("turns", "left"), [((3, 3), 1), ((3, 2), 2), ((3, 2, 2), 2)])
def test_loops_of_as_many_turns_are_joined(turns, left):
    steps = [looping(each, number) for number, each in enumerate(turns)]
    function = join_products(tirx.PrimFunc([], tirx.SeqStmt(steps)))
    assert len(loops(function)) == left


def test_other_loops_are_left_alone():
    other = tirx.For(
        tirx.Var("k", "int32"), 0, 3, tirx.ForKind.SERIAL, tirx.Evaluate(tirx.const(7, "int32"))
    )
    function = tirx.PrimFunc([], tirx.SeqStmt([looping(3, 0), other]))
    assert len(loops(join_products(function))) == 2
