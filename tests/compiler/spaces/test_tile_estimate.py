"""Does the estimate prefer what costs less?"""

from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.spaces.default_point import default_point
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.spaces.tile_estimate import tile_estimate
from tvm_conv3dt.compiler.tap_layout import TAPS
from tvm_conv3dt.compiler.tile_layout import TileLayout
from tvm_conv3dt.spec import Workload

UNIT = catalogue.get("x86-64-v4-amx")


def workload(size, channels, kernel=2):
    in_channels, out_channels = channels
    return Workload.make(
        (1, *size, in_channels),
        (kernel, kernel, kernel, out_channels, in_channels),
        (1, *(2 * each for each in size), out_channels),
        2,
        dtype="bfloat16",
    )


def cycles(its, squares, order="rows", device=UNIT, **tasks):
    layout = TileLayout.of(its, squares)
    point = Point(layout.name, order, squares[1], squares[0], **tasks)
    return tile_estimate(layout, device, point)


def test_tile_that_loads_less_for_each_product_is_preferred():
    its = workload((16, 16, 16), (256, 128))
    assert cycles(its, (2, 2)) < cycles(its, (1, 2)) < cycles(its, (1, 1))


def test_tile_of_all_channels_is_preferred_where_pieces_of_a_tap_fill_the_first_cache():
    its = workload((64, 64, 64), (96, 48), kernel=3).recast(dtype="float32")
    assert default_point(its, UNIT).formulation == "amx-split-1x3-phases"


def test_tile_with_channels_that_nobody_wants_is_not():
    its = workload((16, 16, 16), (256, 16))
    assert cycles(its, (2, 1)) < cycles(its, (2, 2))


def test_more_cores_take_less_time_until_there_are_no_more_tasks():
    its = workload((4, 16, 16), (64, 64))
    whole = TileLayout.of(its, (1, 1)).tiles
    found = [
        cycles(its, (1, 1), device=replace(UNIT, cores=cores), task_h=whole)
        for cores in (1, 2, 4, 8)
    ]
    assert found[0] > found[1] > found[2] == found[3]


def test_planes_that_share_rows_are_copied_together():
    its = workload((8, 16, 16), (64, 64), kernel=3)
    whole = TileLayout.of(its, (1, 1)).tiles
    assert cycles(its, (1, 1), task_h=whole, task_d=2) < cycles(its, (1, 1), task_h=whole)


@pytest.mark.parametrize(("out_channels", "taps"), [(1, True), (16, False), (64, False)])
def test_default_is_the_unit_in_the_way_that_fills_it(out_channels, taps):
    point = default_point(workload((16, 32, 32), (64, out_channels), kernel=3), UNIT)
    assert point.formulation.startswith("amx-")
    assert point.formulation.startswith(TAPS) == taps


def test_rows_that_are_turned_cost_more():
    last = workload((8, 16, 16), (64, 64))
    first = last.recast(data_format="NCDHW")
    assert cycles(first, (1, 1)) > 1.1 * cycles(last, (1, 1))
