"""Is the code for products of blocks what it should be, where there is the instruction and where there is not?"""

import re
from dataclasses import replace

import pytest

tvm = pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.definition import define
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.mmla import import_products, mmla_intrinsics, multiplies_blocks
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.spec import Workload

GRAVITON = catalogue.get("neoverse-v1")
HALF = Workload.make((1, 4, 8, 28, 64), (3, 3, 3, 32, 64), (1, 8, 16, 56, 32), 2, dtype="bfloat16")


def code(built, vectors, rows, pairs):
    """The machine code of a kernel with such a tile."""
    point = Point("mmla-phases", "panels", vectors, rows, pairs)
    return built(HALF, GRAVITON, point).module.mod.inspect_source("asm")


@pytest.mark.parametrize(
    ("vectors", "rows", "pairs"), [(1, 1, 14), (2, 1, 6), (2, 2, 3), (3, 1, 4)]
)
def test_sums_of_a_tile_stay_in_registers(vectors, rows, pairs, built):
    text = code(built, vectors, rows, pairs)
    innermost = [part for part in re.split(r"\n(?=\.L\w+:)", text) if "bfmmla" in part]
    assert innermost
    for part in innermost:
        assert part.count("bfmmla") == 2 * vectors * rows * pairs
        assert not re.search(r"\bst[rp]\s+q|\[sp|\bmov\s+v", part)


def test_code_has_the_instruction_and_nothing_that_widens(built):
    text = code(built, 2, 1, 6)
    assert re.search(r"bfmmla\s+v\d+\.4s, v\d+\.8h, v\d+\.8h", text)
    assert not re.search(r"conv3d_transpose_mmla|\bfmla\b|\bu?shll2?\s+v", text)


def test_intrinsics_of_loops_have_names_of_their_own():
    assert not set(mmla_intrinsics()) & set(mmla_intrinsics(scalar=True))


def test_packed_filters_do_not_depend_on_the_instruction(built):
    point = Point("mmla-phases", "rows", 1)
    without = replace(GRAVITON, cpu_features=("asimd",), mattr=())
    shapes = {built(HALF, each, point).packed_shape for each in (GRAVITON, without)}
    assert shapes == {(8, 3, 3, 3, 16, 2, 2, 4)}


def test_function_that_multiplies_no_blocks_imports_nothing():
    function = define(Layout(HALF, 4))
    assert import_products(function).same_as(function)


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("neoverse-n2", True),
        ("neoverse-v1", True),
        ("neoverse-v2", True),
        ("neoverse-n1", False),
        ("aarch64", False),
        ("x86-64-v4-bf16", False),
    ],
)
def test_devices_that_have_the_instruction(name, has):
    assert multiplies_blocks(catalogue.get(name)) is has
