"""Does the estimate prefer what costs less, and is a search offered the best?"""

from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.spaces import tap_nest
from tvm_conv3dt.compiler.spaces.default_point import default_point
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.spaces.tap_estimate import tap_estimate, tap_formulations
from tvm_conv3dt.compiler.tap_layout import TapLayout
from tvm_conv3dt.spec import Workload

UNIT = catalogue.get("x86-64-v4-amx")


def workload(size=(16, 32, 32), channels=(32, 1), kernel=3):
    in_channels, out_channels = channels
    return Workload.make(
        (1, *size, in_channels),
        (kernel, kernel, kernel, out_channels, in_channels),
        (1, *(2 * each for each in size), out_channels),
        2,
        dtype="bfloat16",
    )


def cycles(its, apart="dhw", planes=1, rows=1, device=UNIT):
    layout = TapLayout.of(its, apart, planes, rows)
    return tap_estimate(layout, device, Point(layout.name, tap_nest.ORDER, 1))


def test_larger_tasks_turn_less_twice():
    its = workload()
    assert cycles(its, planes=1) > cycles(its, planes=4)
    assert cycles(its, rows=1) > cycles(its, rows=4)


def test_more_cores_take_less_time_until_there_are_no_more_tasks():
    its = workload((4, 2, 32))
    found = [cycles(its, device=replace(UNIT, cores=cores), rows=2) for cores in (1, 2, 4, 8)]
    assert found[0] > found[1] > found[2] == found[3]


def test_many_taps_are_summed_over_depth_at_once():
    few, many = workload(), workload(kernel=7)
    assert cycles(few, "dhw") < cycles(few, "hw")
    assert cycles(many, "hw") < cycles(many, "dhw")


def test_search_is_offered_the_best_tasks_of_each_choice():
    its = workload()
    found = tap_formulations(its, UNIT)
    for apart in ("dhw", "hw"):
        layouts = sorted(
            tap_nest.tasks(its, UNIT, apart),
            key=lambda each: cycles(its, each.apart, each.planes, each.task_rows),
        )
        assert [name for name in found if f"-{apart}-" in name] == [e.name for e in layouts[:3]]


@pytest.mark.parametrize(
    ("channels", "chosen"), [((32, 1), True), ((16, 3), True), ((64, 64), False), ((32, 16), False)]
)
def test_it_is_chosen_where_there_are_few_output_channels(channels, chosen):
    point = default_point(workload(channels=channels), UNIT)
    assert ("taps" in point.formulation) == chosen
