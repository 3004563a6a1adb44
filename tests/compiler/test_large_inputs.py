"""Are sums over taps made where a task has met a large input, and only there?"""

from dataclasses import replace

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

import tvm_ffi
from tvm import tirx

from tvm_conv3dt.compiler.large_inputs import spare_sums
from tvm_conv3dt.compiler.schedule import point_schedule
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.spaces.winograd_nest import PHASES, POINTS
from tvm_conv3dt.compiler.winograd_layout import WinogradLayout
from tvm_conv3dt.reference import integer_data, reference

from .geometries import evenly


def scheduled(workload, device, name, order):
    schedule = point_schedule(workload, device, Point(name, order, 1)).apply(device)
    return next(iter(schedule.mod.functions.values()))


def conditions(function):
    found = []
    tvm_ffi.structural_walk(function, (tirx.IfThenElse, found.append))
    return found


def channels(device):
    return 2 * device.lanes(4), device.lanes(4)


def named(workload, device, columns):
    layout = WinogradLayout.choices(workload, device.lanes(4))[0]
    return replace(layout, task_columns=columns).name


def test_sums_over_taps_are_under_a_condition(host):
    before = scheduled(evenly(channels(host), kernel=4), host, "winograd-2x3x2-1x5", "points")
    (added,) = set(conditions(spare_sums(before))) - set(conditions(before))
    assert "direct" in str(added.then_case)
    assert "met" in str(added.condition)


def test_other_functions_are_left_alone(host):
    function = scheduled(evenly(channels(host)), host, "phases", "rows")
    assert spare_sums(function).same_as(function)


@pytest.mark.parametrize("large", [np.inf, -np.inf, np.nan, 2.0**60, 3e38])
@pytest.mark.parametrize(("kernel", "order"), [(3, PHASES), (4, POINTS), (4, PHASES), (6, POINTS)])
def test_results_are_those_of_sums_over_taps(kernel, order, large, host, call, built):
    workload = evenly(channels(host), kernel=kernel)
    x, filters, _ = integer_data(workload, seed=0)
    x[0, 1, 1, 4, 1] = large
    if np.isfinite(large):
        # Of filters of one size no sum is nearly zero.
        filters[..., 1] = np.where(filters[..., 1] > 0, 0.5, -0.5)
    expected = reference(workload, x, filters).astype(np.float32)
    name = named(workload, host, 3)
    found = call(built(workload, host, Point(name, order, 1, tile_w=3)), x, filters)
    # Of a zero filter, and of infinities of both signs, the right result is NaN.
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_large_input_leaves_no_roundings_in_results_that_do_not_read_it(host, call, built):
    """Three results of two taps are made together, of four inputs; the first reads two of them."""
    workload = evenly(channels(host), kernel=4)
    assert "x3-" in named(workload, host, 3)
    x, filters, _ = integer_data(workload, seed=0)
    x[0, :, :, 4], filters = 2.0**60, abs(filters) + 1
    expected = reference(workload, x, filters)
    found = call(built(workload, host, Point(named(workload, host, 3), "points", 1)), x, filters)
    small = abs(expected) < 2.0**24
    assert small.all(axis=(0, 1, 2, 4)).sum() == 18 - 4
    np.testing.assert_array_equal(found[small], expected[small])


@pytest.mark.parametrize(("kernel", "order"), [(3, PHASES), (4, POINTS)])
def test_tasks_forget_what_others_have_met(kernel, order, host, call, built):
    """One infinity, in the first of many tasks: what it does not reach is exact."""
    workload = evenly(channels(host), kernel=kernel, width=40)
    x, filters, _ = integer_data(workload, seed=0)
    x[0, 0, 0, 0, 0] = np.inf
    its = built(workload, host, Point(named(workload, host, 5), order, 1, tile_w=5))
    expected = reference(workload, x, filters)
    finite = np.isfinite(expected)
    assert not finite.all()
    np.testing.assert_array_equal(call(its, x, filters)[finite], expected[finite])


def test_half_of_the_lanes_look_at_all_input_channels(host, call, built):
    device = replace(host, vector_bits=512)
    workload = evenly((19, 8), kernel=4)
    x, filters, _ = integer_data(workload, seed=0)
    x[0, 1, 1, 4, 18] = np.nan
    expected = reference(workload, x, filters)
    kernel = built(workload, device, Point(named(workload, device, 5), "points", 1, tile_w=5))
    np.testing.assert_array_equal(call(kernel, x, filters), expected)
