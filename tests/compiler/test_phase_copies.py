"""Has each phase code of its own, with the turns that it takes and memory of its own?"""

from dataclasses import replace

import pytest

tvm = pytest.importorskip("tvm")

import tvm_ffi
from tvm import s_tir, tirx

from tvm_conv3dt.compiler.phase_copies import COPIED, copy_phases
from tvm_conv3dt.compiler.schedule import point_schedule
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.winograd_layout import WinogradLayout
from tvm_conv3dt.spec import Workload


def scheduled(device, kernel, strides):
    lanes = device.lanes(4)
    output = [4 * stride for stride in strides]
    workload = Workload.make(
        (1, 4, 4, 4, lanes), (*kernel, lanes, lanes), (1, *output, lanes), strides
    )
    layout = replace(WinogradLayout.choices(workload, lanes)[0], task_rows=2, task_columns=2)
    schedule = point_schedule(workload, device, Point(layout.name, "points", 1)).apply(device)
    return next(iter(schedule.mod.functions.values()))


def turns(statement, name, made=1):
    """How often a block called `name` runs, for each copy of it: the turns of all loops around it."""
    if isinstance(statement, tirx.For):
        return turns(statement.body, name, made * int(statement.extent))
    if isinstance(statement, tirx.SeqStmt):
        return [each for step in statement.seq for each in turns(step, name, made)]
    if not isinstance(statement, s_tir.SBlockRealize):
        return []
    block = statement.block
    return [made] if block.name_hint == name else turns(block.body, name, made)


def blocks(function, name):
    found = []
    tvm_ffi.structural_walk(function, (s_tir.SBlock, found.append))
    return [each for each in found if each.name_hint == name]


def test_phases_of_equal_taps_stay_a_loop(host):
    function = scheduled(host, (4, 3, 2), (2, 1, 1))
    assert copy_phases(function).same_as(function)
    assert COPIED not in function.attrs


def test_each_phase_of_other_taps_is_written_out(host):
    function = copy_phases(scheduled(host, (3, 5, 4), (2, 2, 2)))
    copies = blocks(function, "products")
    # Two phases of depth and two of height; those of the width are a loop.
    assert len(copies) == 4
    buffers = {each.writes[0].source for each in copies}
    assert len(buffers) == 4
    assert len(blocks(function, "padded")) == 1
    assert COPIED in function.attrs


def test_loops_take_as_many_turns_as_the_phase_has_points(host):
    before = scheduled(host, (3, 1, 1), (2, 1, 1))
    after = copy_phases(before)
    (every,) = turns(before.body, "products")
    # Of 2 phases with 3 points each, the second has 2.
    assert sorted(turns(after.body, "products")) == [every // 3, every // 2]
    for name in ("points", "along_h"):
        assert len(set(turns(after.body, name))) == 2
