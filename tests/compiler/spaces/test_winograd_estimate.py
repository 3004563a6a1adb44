"""Does the estimate of Winograd's filtering prefer what costs less, and is a search offered the best?"""

from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.spaces import winograd_nest
from tvm_conv3dt.compiler.spaces.default_point import default_point
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.spaces.winograd_estimate import winograd_estimate, winograd_formulations
from tvm_conv3dt.compiler.winograd_layout import WinogradLayout
from tvm_conv3dt.spec import Workload

V4 = catalogue.get("x86-64-v4")


def workload(size=(16, 32, 32), channels=(64, 64), kernel=4, stride=2):
    in_channels, out_channels = channels
    return Workload.make(
        (1, *size, in_channels),
        (kernel, kernel, kernel, out_channels, in_channels),
        (1, *(stride * each for each in size), out_channels),
        stride,
    )


def cycles(its, rows=1, columns=16, vectors=2, tile=8, device=V4, order=winograd_nest.POINTS):
    layout = replace(WinogradLayout.choices(its, 16)[0], task_rows=rows, task_columns=columns)
    point = Point(layout.name, order, vectors, tile_w=tile)
    return winograd_estimate(layout, device, point)


def test_register_tiles_that_hide_latencies_take_less():
    its = workload()
    assert cycles(its, vectors=1, tile=2) > cycles(its, vectors=2, tile=8)


def test_filters_are_read_less_often_by_larger_tasks():
    its = workload(channels=(256, 256))
    assert cycles(its, columns=4, tile=4) > cycles(its, columns=16, tile=4)


def test_filters_of_one_phase_stay_nearer_than_all():
    its = workload(channels=(128, 128))
    assert cycles(its, order=winograd_nest.PHASES) < cycles(its)


def test_inputs_and_outputs_are_near_once_for_all_phases():
    its = workload((64, 64, 64), channels=(32, 32))
    assert cycles(its, order=winograd_nest.PHASES) > cycles(its)


def test_tasks_divide_among_cores():
    its = workload((4, 4, 32))
    found = [cycles(its, device=replace(V4, cores=cores)) for cores in (1, 2, 4, 8)]
    assert found[0] > found[1] > found[2] == found[3]


def test_search_is_offered_the_best_tasks():
    its = workload()
    found = winograd_formulations(its, V4)
    least = {
        layout.name: min(
            winograd_estimate(layout, V4, point)
            for family in winograd_nest.families(layout, V4)
            for point in winograd_nest.points(layout, V4, family)
        )
        for layout in winograd_nest.tasks(its, V4)
    }
    assert found == sorted(least, key=lambda name: least[name])[:6]


@pytest.mark.parametrize(
    ("more", "chosen"),
    [
        ({"kernel": 3, "stride": 1}, True),
        ({"kernel": 6}, True),
        ({"kernel": 4}, True),
        ({"kernel": 2}, False),
        ({"kernel": 4, "size": (4, 4, 4), "channels": (512, 256)}, False),  # filters take the time
    ],
)
def test_default_takes_it_where_products_take_the_time(more, chosen):
    found = default_point(workload(**more), V4)
    assert found.formulation.startswith("winograd-") is chosen
