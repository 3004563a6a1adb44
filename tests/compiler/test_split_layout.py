"""Does a layout of split numbers tell its formulation, and count what pieces take?"""

from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import schedule, schedule_file
from tvm_conv3dt.compiler.spaces import llvm
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.split_layout import SPLIT, SplitLayout
from tvm_conv3dt.compiler.tile_layout import TileLayout
from tvm_conv3dt.spec import Workload

from .geometries import evenly


def test_name_gives_the_layout_back():
    made = SplitLayout.of(evenly((33, 40)), (2, 2), "fold-dhw")
    assert made.name == "amx-split-2x2-fold-dhw"
    assert SplitLayout.parse(made.workload, made.name) == made


@pytest.mark.parametrize("name", ["amx-2x2-phases", "amx-split-2x2", "amx-taps-hw-4x8", "phases"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="is none of matrix units"):
        SplitLayout.parse(evenly((32, 32)), name)


def test_tiles_of_numbers_that_are_whole_have_other_names():
    with pytest.raises(ValueError, match="is none of matrix units"):
        TileLayout.parse(evenly((32, 32)), "amx-split-2x2-phases")


def test_filters_have_three_pieces():
    made = SplitLayout.of(evenly((33, 40)), (1, 2))
    assert made.packed_shape == (2, 3, 3, 3, 2, 3, 2, 16, 16, 2)
    assert made.itemsize == 6


@pytest.mark.parametrize(
    ("kernel", "stride", "pitch"), [(2, 2, 32), (3, 2, 33), (4, 2, 33), (3, 1, 33), (5, 1, 34)]
)
def test_rows_share_the_zeros_between_them(kernel, stride, pitch):
    workload = evenly((32, 32), kernel=kernel, stride=stride, width=32)
    assert SplitLayout.of(workload, (2, 2)).pitch == pitch


@pytest.mark.parametrize(("height", "tiles"), [(4, 4), (8, 8), (16, 16), (17, 18), (31, 32)])
def test_tasks_can_share_the_tiles_of_a_plane(height, tiles):
    workload = Workload.make(
        (1, 2, height, 32, 32), (1, 2, 2, 32, 32), (1, 2, 2 * height, 64, 32), (1, 2, 2)
    )
    assert SplitLayout.of(workload, (2, 2)).tiles == tiles


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"precision": "bfloat16"}, False),
        ({"precision": "float32"}, False),
        ({"dtype": "bfloat16"}, False),
        ({"dtype": "float16"}, False),
        ({"dtype": "float64"}, False),
        ({"data_format": "NCDHW"}, True),
    ],
)
def test_float32_is_split_unless_a_precision_is_said(change, fits):
    assert SplitLayout.fits(evenly((32, 32)).recast(**change)) == fits


@pytest.mark.parametrize(("cores", "split"), [(2, True), (4, True), (5, False), (16, False)])
def test_many_threads_are_left_to_vectors(cores, split, tmp_path):
    """Neither are split numbers offered then, nor is a schedule of them taken from a folder."""
    workload = evenly((32, 32), width=43)
    device = replace(catalogue.get("x86-64-v4-amx"), cores=cores)
    assert any(each.startswith(SPLIT) for each in llvm.formulations(workload, device)) == split
    point = Point("amx-split-2x2-phases", "rows", 2, 2)
    schedule_file.write(schedule.point_schedule(workload, device, point), tmp_path)
    found = schedule_file.find(workload, device, [tmp_path])
    assert (found is not None) == split
