"""Is the nest of tensor cores exact, whatever the tiles?"""

from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from cuda_on_cpu.operators import wrong_results

from tvm_conv3dt import device as devices
from tvm_conv3dt.compiler import schedule
from tvm_conv3dt.compiler.gemm_layout import GemmLayout, Tile
from tvm_conv3dt.compiler.spaces import matrix_nest
from tvm_conv3dt.compiler.spaces.point import GpuFamily, GpuPoint
from tvm_conv3dt.spec import DATA_FORMATS, Workload

ORIN = devices.get("cuda-sm87")

# 60 positions of each of 8 phases, which have different taps; 40 input channels, and 36 output channels.
UP = Workload.make((1, 3, 4, 5, 40), (3, 3, 3, 36, 40), (1, 6, 8, 10, 36), 2, dtype="float16")


def wrong(tile, rows, columns, order="forward", workload=UP, folding="phases"):
    name = GemmLayout.of(workload, tile, folding, matrix_units=True).name
    its = schedule.point_schedule(workload, ORIN, GpuPoint(name, "warps", rows, columns))
    return wrong_results(its, ORIN, order)


@pytest.mark.parametrize("order", ["forward", "reverse"])
@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (64, 16), (16, 64), (32, 32), (64, 64)])
def test_any_tile_of_a_warp_is_exact(rows, columns, order):
    assert wrong(Tile(64, 64, 16), rows, columns, order) == 0


@pytest.mark.parametrize(
    "tile",
    [Tile(16, 16, 32), Tile(128, 16, 16), Tile(32, 96, 32), Tile(32, 48, 16, 2)],
    ids=str,
)
def test_any_tile_of_a_block_is_exact(tile):
    assert wrong(tile, 16, 16) == 0


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("activation", [None, "relu", "elu"])
def test_what_follows_a_sum_is_exact(activation, data_format):
    workload = replace(UP, bias=True, activation=activation).recast(data_format)
    assert wrong(Tile(32, 32, 16), 16, 16, workload=workload) == 0


def test_folded_phases_fill_a_tile():
    workload = Workload.make(
        (1, 3, 4, 5, 17), (2, 2, 2, 3, 17), (1, 6, 8, 10, 3), 2, dtype="float16"
    )
    assert wrong(Tile(32, 32, 16), 16, 32, workload=workload, folding="fold-dhw") == 0


def test_families_divide_the_tile_and_leave_room_for_two_blocks():
    layout = GemmLayout.of(UP, Tile(128, 96, 16), matrix_units=True)
    found = list(matrix_nest.families(layout, ORIN))
    assert GpuFamily("warps", 64, 32) in found
    for family in found:
        assert layout.positions % family.rows == layout.lanes % family.columns == 0
        assert matrix_nest.threads_of(layout, family) <= 512


def test_tile_of_many_warps_has_no_family_of_small_ones():
    layout = GemmLayout.of(UP, Tile(128, 128, 16), matrix_units=True)
    assert GpuFamily("warps", 16, 16) not in set(matrix_nest.families(layout, ORIN))


def test_tile_that_no_square_fits_has_no_family():
    layout = GemmLayout.of(UP, Tile(24, 16, 16), matrix_units=True)
    assert list(matrix_nest.families(layout, ORIN)) == []
