"""Is the nest of a GPU's threads exact, whatever the tiles, and are its arrays registers?"""

from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from cuda_on_cpu.operators import wrong_results

from tvm_conv3dt import device as devices
from tvm_conv3dt.compiler import kernel, schedule
from tvm_conv3dt.compiler.cuda_toolchain import compile_source
from tvm_conv3dt.compiler.gemm_layout import GemmLayout, Tile
from tvm_conv3dt.compiler.spaces import cuda, simt_nest
from tvm_conv3dt.compiler.spaces.point import GpuFamily, GpuPoint
from tvm_conv3dt.errors import CompilerMissingError
from tvm_conv3dt.spec import DATA_FORMATS, Workload

ORIN = devices.get("cuda-sm87")

# 60 positions of each of 8 phases, which have different taps; 20 input channels; 40 output channels.
UP = Workload.make((1, 3, 4, 5, 20), (3, 3, 3, 40, 20), (1, 6, 8, 10, 40), 2)


def point_of(tile, rows, columns, unroll=4, folding="phases", workload=UP):
    return GpuPoint(GemmLayout.of(workload, tile, folding).name, "threads", rows, columns, unroll)


def wrong(point, order="forward", workload=UP):
    return wrong_results(schedule.point_schedule(workload, ORIN, point), ORIN, order)


@pytest.mark.parametrize("order", ["forward", "reverse"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (1, 8), (8, 1), (2, 4), (8, 4), (8, 8)])
def test_any_tile_of_a_thread_is_exact(rows, columns, order):
    assert wrong(point_of(Tile(32, 32, 8), rows, columns), order) == 0


@pytest.mark.parametrize("unroll", [1, 4, 8])
def test_any_number_of_products_in_a_row_is_exact(unroll):
    assert wrong(point_of(Tile(32, 16, 16), 4, 2, unroll)) == 0


@pytest.mark.parametrize(
    "tile",
    [Tile(128, 8, 8), Tile(16, 48, 16), Tile(4, 128, 8), Tile(32, 16, 8, 2), Tile(16, 32, 8, 3)],
    ids=str,
)
def test_any_tile_of_a_block_is_exact(tile):
    assert wrong(point_of(tile, 2, 1)) == 0


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_any_type_is_exact(dtype, data_format):
    workload = replace(UP, bias=True, activation="relu").recast(data_format, dtype)
    assert wrong(point_of(Tile(32, 16, 8), 2, 4, workload=workload), workload=workload) == 0


def test_families_are_of_whole_warps_and_leave_room_for_two_blocks():
    layout = GemmLayout.of(UP, Tile(128, 48, 8))
    found = list(simt_nest.families(layout, ORIN))
    assert GpuFamily("threads", 8, 8) in found
    assert GpuFamily("threads", 1, 1) not in found
    for family in found:
        threads = simt_nest.threads_of(layout, family)
        assert threads % 32 == 0
        assert threads <= 512


def test_no_tile_of_many_results_is_less_than_a_warp():
    assert list(simt_nest.families(GemmLayout.of(UP, Tile(4, 4, 8)), ORIN)) == []


@pytest.mark.parametrize(("size", "channels"), [(1, 1), (1, 3), (2, 4), (3, 1), (3, 7)])
def test_few_results_have_a_point(size, channels):
    workload = Workload.make(
        (1, 1, 1, size, 2), (1, 1, 1, channels, 2), (1, 1, 1, size, channels), 1
    )
    first = next(cuda.points(workload, ORIN))
    assert wrong(first, workload=workload) == 0


IN_REGISTERS = {
    "taps differ by phase": (UP, Tile(32, 32, 16), 4),
    "kernel below stride": (
        Workload.make((1, 4, 4, 4, 40), (1, 2, 3, 32, 40), (1, 12, 8, 8, 32), (3, 2, 2)),
        Tile(32, 32, 16),
        4,
    ),
    "one position": (
        Workload.make((1, 1, 4, 4, 40), (3, 2, 2, 32, 40), (1, 4, 8, 8, 32), 2, "VALID"),
        Tile(32, 32, 16),
        4,
    ),
    "64 elements to each thread": (UP.recast("NCDHW"), Tile(128, 8, 16), 8),
}


@pytest.mark.parametrize("name", IN_REGISTERS)
def test_results_and_operands_are_in_registers(name):
    try:
        compile_source("", ORIN.arch)
    except CompilerMissingError as error:
        pytest.skip(str(error))
    workload, tile, rows = IN_REGISTERS[name]
    its = schedule.point_schedule(workload, ORIN, point_of(tile, rows, 4, workload=workload))
    built = kernel.compile_kernel(its.layout(ORIN), ORIN, its.apply(ORIN))
    assert [each.stack_bytes + each.spill_bytes for each in built.gpu.resources] == [0, 0]
