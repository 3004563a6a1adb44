"""Which workloads does Winograd's filtering serve, and how large are its tasks and filters?"""

import pytest

from tvm_conv3dt.compiler.winograd_layout import WinogradLayout
from tvm_conv3dt.spec import Workload

from .geometries import evenly


def layout(rows=1, columns=1, **more):
    return WinogradLayout(evenly((16, 16), **more), 8, task_rows=rows, task_columns=columns)


@pytest.mark.parametrize(
    ("channels", "more", "fits"),
    [
        ((16, 16), {}, True),
        ((16, 9), {}, True),
        ((12, 16), {}, False),  # no whole vectors of input channels
        ((16, 7), {}, False),
        ((16, 16), {"kernel": 2}, False),  # one tap
        ((16, 16), {"kernel": 1}, False),  # a phase without any
        ((16, 16), {"kernel": 7, "stride": 3}, False),  # code for 27 phases
        ((16, 16), {"dilations": 3}, False),
        ((16, 16), {"data_format": "NCDHW"}, False),
        ((16, 16), {"dtype": "float64"}, False),
        ((16, 16), {"precision": "bfloat16"}, False),
    ],
)
def test_fits_float32_with_taps_to_save_and_whole_vectors(channels, more, fits):
    data_format = more.pop("data_format", "NDHWC")
    workload = evenly(channels, **more).recast(data_format=data_format)
    assert WinogradLayout.fits(workload, 8) is fits


def test_name_tells_the_task():
    named = layout(2, 5)
    assert named.name == "winograd-2x5"
    assert WinogradLayout.parse(named.workload, 8, named.name) == named


@pytest.mark.parametrize("name", ["winograd-", "winograd-2", "winograd-2x", "winograd-1x1-phases"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="Winograd"):
        WinogradLayout.parse(evenly((16, 16)), 8, name)


def test_tasks_cover_all_groups():
    its = layout(2, 2)
    # Of 3 positions, those of the height, pairs would have more products.
    assert [each.results for each in its.filterings] == [2, 1, 2]
    assert its.tasks == (1, 2, 3)
    assert its.rows == 4


def test_filters_are_those_of_points_and_of_taps():
    workload = Workload.make((1, 4, 4, 4, 16), (3, 4, 1, 20, 16), (1, 8, 8, 4, 20), (2, 2, 1))
    its = WinogradLayout(workload, 8)
    assert its.points == (3, 3, 1)
    assert its.taps == (2, 2, 1)
    assert its.packed_shape == (2, 2, 1, 3, 9 + 4, 16, 8)
    assert its.products == (3 + 2) * (3 + 3) * 1


def test_spans_are_those_of_all_phases():
    its = layout(kernel=4)
    # One result of the height reads two inputs of each phase, two results read three.
    assert its.starts == (-1, -1, -1)
    assert its.spans == (4, 3, 4)
