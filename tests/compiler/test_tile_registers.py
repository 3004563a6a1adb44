"""Do tasks set the tile registers up and give them back?"""

import re

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.tile_registers import configuration
from tvm_conv3dt.spec import Workload

UNIT = catalogue.get("x86-64-v4-amx")


def code(built, tasks, device=UNIT, formulation="amx-1x1-phases"):
    """The machine code of a kernel of so many tasks."""
    workload = Workload.make(
        (1, tasks, 4, 4, 32), (1, 2, 2, 16, 32), (1, tasks, 8, 8, 16), (1, 2, 2), dtype="bfloat16"
    )
    return built(workload, device, Point(formulation, "rows", 1)).module.mod.inspect_source("s")


@pytest.mark.parametrize("tasks", [1, 3])
def test_tiles_are_set_up_before_the_first_use_and_given_back_after_the_last(tasks, built):
    used = re.findall(r"^\s+(ldtilecfg|tile\w+|tdp\w+)\b", code(built, tasks), re.MULTILINE)
    assert used[0] == "ldtilecfg"
    assert used[-1] == "tilerelease"
    assert used.count("ldtilecfg") == 1 == used.count("tilerelease")


@pytest.mark.parametrize(
    ("device", "formulation"), [("x86-64-v4", "amx-1x1-phases"), ("x86-64-v4-amx", "phases")]
)
def test_code_that_uses_no_tiles_is_left_alone(device, formulation, built):
    source = code(built, 2, catalogue.get(device), formulation)
    assert not re.search(r"ldtilecfg|tdpbf16ps|tilerelease", source)


def test_configuration_is_of_eight_full_tiles():
    found = configuration()
    assert found.nbytes == 64
    assert found[0] == 1
    assert found[16:32].view(np.uint16).tolist() == [64] * 8
    assert found[48:56].tolist() == [16] * 8
    assert int(found.sum()) == 1 + 8 * 64 + 8 * 16


def test_registers_may_have_fewer_rows():
    found = configuration([9, 16, 1, 16, 16, 16, 16, 2])
    assert found[48:56].tolist() == [9, 16, 1, 16, 16, 16, 16, 2]
    assert found[16:32].view("uint16").tolist() == [64] * 8
