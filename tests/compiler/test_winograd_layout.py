"""Which workloads does Winograd's filtering serve, and how large are its tasks and filters?"""

from math import prod

import pytest

from tvm_conv3dt.compiler.winograd_layout import WinogradLayout
from tvm_conv3dt.spec import Workload

from .geometries import evenly


def layout(rows=1, columns=1, results=(2, 1, 2), **more):
    workload = evenly((16, 16), **more)
    return WinogradLayout(workload, 8, results=results, task_rows=rows, task_columns=columns)


@pytest.mark.parametrize(
    ("channels", "more", "fits"),
    [
        ((16, 16), {}, True),
        ((16, 9), {}, True),
        ((12, 16), {}, True),
        ((7, 16), {}, False),  # no whole vector of input channels
        ((16, 4), {}, True),  # with half of the lanes
        ((16, 3), {}, False),
        ((16, 16), {"kernel": 2}, False),  # one tap
        ((16, 16), {"kernel": 1}, False),  # a phase without any
        ((16, 16), {"kernel": 7, "stride": 3}, False),  # code for 27 phases
        ((16, 16), {"dilations": 3}, False),
        ((16, 16), {"data_format": "NCDHW"}, False),
        ((16, 16), {"dtype": "float64"}, False),
        ((16, 16), {"precision": "bfloat16"}, False),
        ((16, 16), {"precision": "float32"}, False),
    ],
)
def test_float32_fits_with_products_to_save_and_channels_for_vectors(channels, more, fits):
    data_format = more.pop("data_format", "NDHWC")
    workload = evenly(channels, **more).recast(data_format=data_format)
    assert bool(WinogradLayout.choices(workload, 8)) is fits


@pytest.mark.parametrize(
    ("lanes", "out_channels", "used"), [(16, 16, 16), (16, 8, 8), (16, 3, 8), (8, 7, 4), (4, 3, 4)]
)
def test_half_of_the_lanes_are_used_where_output_channels_do_not_fill_them(
    lanes, out_channels, used
):
    workload = evenly((16, out_channels))
    assert WinogradLayout.lanes_of(workload, lanes) == used
    assert {each.lanes for each in WinogradLayout.choices(workload, lanes)} <= {used}


def test_choices_are_of_results_that_save_products_the_most_first():
    """Of 2 positions, of 3 and of 9."""
    found = WinogradLayout.choices(evenly((16, 16), kernel=4), 8)
    depth, height, width = ({each.results[axis] for each in found} for axis in range(3))
    assert (depth, height, width) == ({1, 2}, {1, 3}, {1, 2, 3})
    assert found[0].results == (2, 3, 3)
    counts = [prod(one.products for one in each.filterings) for each in found]
    assert counts == sorted(counts)


def test_name_tells_results_and_task():
    named = layout(2, 5)
    assert named.name == "winograd-2x1x2-2x5"
    assert WinogradLayout.parse(named.workload, 8, named.name) == named


@pytest.mark.parametrize(
    "name",
    [
        "winograd-",
        "winograd-2x5",
        "winograd-2x1x2-2x",
        "winograd-2x1x2-1x1-phases",
        "winograd-2x1x4-1x1",
        "winograd-3x1x2-1x1",  # more products than those of 2
        "winograd-1x1x1-1x1",  # as many as taps ask for
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="Winograd"):
        WinogradLayout.parse(evenly((16, 16)), 8, name)


def test_tasks_cover_all_groups():
    its = layout(2, 2)
    assert its.tasks == (1, 2, 3)
    assert its.rows == 4


def test_filters_are_those_of_points_and_of_taps():
    workload = Workload.make((1, 4, 4, 4, 16), (3, 4, 1, 20, 16), (1, 8, 8, 4, 20), (2, 2, 1))
    its = WinogradLayout(workload, 8, results=(2, 2, 1))
    assert its.points == (3, 3, 1)
    assert its.filters == (3 + 1, 3 + 3, 1)
    assert its.packed_shape == (3, 4 * 6 + 3 * 4, 16, 8)
    assert its.products == (3 + 2) * (3 + 3) * 1


def test_spans_are_those_of_all_phases():
    its = layout(kernel=4)
    # One result of the height reads two inputs of each phase, two results read three.
    assert its.starts == (-1, -1, -1)
    assert its.spans == (4, 3, 4)
