"""Are sums made again where a task has met an infinity, and only there?"""

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

import tvm_ffi
from tvm import s_tir

from tvm_conv3dt.compiler.mending import mend_sums
from tvm_conv3dt.compiler.schedule import point_schedule
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.reference import reference

from .geometries import evenly


def scheduled(workload, device, name, order="rows"):
    schedule = point_schedule(workload, device, Point(name, order, 1, 1)).apply(device)
    return next(iter(schedule.mod.functions.values()))


def names(function):
    found = []
    tvm_ffi.structural_walk(function, (s_tir.SBlock, lambda each: found.append(each.name_hint)))
    return found


def test_sums_are_made_again_without_corrections(host):
    before = scheduled(evenly((32, 16)), host, "amx-split-1x1-phases")
    after = names(mend_sums(before))
    assert names(before).count("corrections_update_o") == after.count("corrections_update_o") == 1
    assert names(before).count("accumulator_update_o") == 1
    assert after.count("accumulator_update_o") == 2
    assert {"cleared", "watched", "mended"} <= set(after)


def test_numbers_that_are_whole_are_left_alone(host):
    function = scheduled(evenly((32, 16)).recast(precision="bfloat16"), host, "amx-1x1-phases")
    assert mend_sums(function).same_as(function)


def test_tasks_forget_what_others_have_met(host, call, built):
    """One infinity, in the last of many tasks: what has no part in it has its corrections."""
    workload = evenly((32, 16), width=40)
    rng = np.random.default_rng(0)
    x, filters = (
        rng.integers(-(2**8), 2**8, shape).astype(np.float32)
        for shape in (workload.input, workload.filters)
    )
    x = x + np.float32(2**-9)  # of more bits than a piece has
    x[0, -1, -1, -1, 0] = np.inf
    expected = reference(workload, x, filters)
    kernel = built(workload, host, Point("amx-split-1x1-phases", "rows", 1, 1))
    found = call(kernel, x, filters)
    finite = np.isfinite(expected)
    assert not finite.all()
    # Without corrections sums would be off by tens.
    np.testing.assert_array_equal(np.isfinite(found), finite)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-6, atol=0.25)
