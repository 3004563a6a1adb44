"""Does the estimate rank points for GPUs sensibly, and refuse those that do not fit?"""

import random
from dataclasses import replace
from math import inf

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as devices
from tvm_conv3dt.compiler.gemm_layout import GemmLayout, Tile
from tvm_conv3dt.compiler.spaces import cuda
from tvm_conv3dt.compiler.spaces.gpu_default_point import default_points, estimate, registers
from tvm_conv3dt.compiler.spaces.point import GpuPoint
from tvm_conv3dt.spec import DATA_FORMATS, DTYPES, Workload

H100 = devices.get("cuda-sm90")
DECODER = Workload.make((1, 12, 32, 64, 64), (3, 3, 3, 64, 64), (1, 24, 64, 128, 64), 2)
HALF = replace(DECODER, dtype="float16")


def with_gpu(**limits):
    return replace(H100, gpu=replace(H100.gpu, **limits))


def some_points(workload, count=200):
    return random.Random(0).sample(list(cuda.points(workload, H100)), count)


def point_of(tile, rows, columns):
    return GpuPoint(GemmLayout.of(DECODER, tile).name, "threads", rows, columns, 4)


@pytest.mark.parametrize("workload", [DECODER, HALF], ids=["float32", "float16"])
def test_it_has_the_least_estimate(workload):
    best = estimate(workload, H100, default_points(workload, H100)[0])
    assert best == min(estimate(workload, H100, each) for each in cuda.points(workload, H100))


@pytest.mark.parametrize("workload", [DECODER, HALF], ids=["float32", "float16"])
def test_estimate_cannot_beat_the_multipliers(workload):
    rate = 128 if workload is DECODER else 1024
    least = workload.flops / 2 / rate / H100.gpu.multiprocessors
    assert all(estimate(workload, H100, each) >= least for each in some_points(workload))


def test_more_multiprocessors_never_cost_more():
    for each in some_points(DECODER):
        few, many = (estimate(DECODER, with_gpu(multiprocessors=n), each) for n in (16, 132))
        assert many <= few


@pytest.mark.parametrize(
    "limits",
    [
        {"registers_per_thread": 64},
        {"registers_per_multiprocessor": 4096},
        {"shared_bytes_per_multiprocessor": 4096},
        {"threads_per_multiprocessor": 32},
    ],
    ids=str,
)
def test_point_that_does_not_fit_is_never_chosen(limits):
    point = point_of(Tile(64, 64, 8), 8, 8)
    assert estimate(DECODER, H100, point) < inf
    assert estimate(DECODER, with_gpu(**limits), point) == inf


def test_larger_tiles_of_a_thread_take_more_registers():
    layout = GemmLayout.of(DECODER, Tile(64, 64, 8))
    taken = [registers(layout, point_of(Tile(64, 64, 8), n, n)) for n in (2, 4, 8)]
    assert taken == sorted(taken)
    assert taken[-1] > 64 + 2 * 8


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("size", "channels"), [(1, 1), (2, 3), (1, 31)])
def test_smallest_workloads_have_one(size, channels, dtype, data_format):
    workload = Workload.make(
        (1, 1, 1, size, 1), (1, 1, 2, channels, 1), (1, 1, 1, 2 * size, channels), (1, 1, 2)
    ).recast(data_format, dtype)
    point = default_points(workload, H100)[0]
    assert point in set(cuda.points(workload, H100))


def test_one_product_at_a_time_is_estimated_slower():
    slow = min(
        estimate(DECODER, H100, each)
        for each in cuda.points(DECODER, H100)
        if each.rows == each.columns == 1
    )
    assert slow > 1.5 * estimate(DECODER, H100, default_points(DECODER, H100)[0])
