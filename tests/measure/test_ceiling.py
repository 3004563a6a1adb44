"""Is the roofline what its formulas say?"""

import json
from dataclasses import asdict

import pytest

from tvm_conv3dt.measure import ceiling, load
from tvm_conv3dt.measure.ceiling import Ceilings
from tvm_conv3dt.measure.timing import Timing
from tvm_conv3dt.spec import Workload

WORKLOAD = Workload.make([1, 4, 4, 4, 8], [2, 2, 2, 4, 8], [1, 8, 8, 8, 4], 2)


OUTPUT_BYTES = 8 * 8 * 8 * 4 * 4


def ceilings(gflops=1e9, copy=1e9, write=1e9, **others):
    return Ceilings(gflops, copy, write, threads=1, **others)


@pytest.mark.parametrize(
    ("found", "limit"),
    [
        (ceilings(gflops=WORKLOAD.flops / 1e9), "compute"),
        (ceilings(gflops=1e-9, fma_gflops=WORKLOAD.flops / 1e9), "compute"),
        (ceilings(gflops=WORKLOAD.flops / 1e9, fma_gflops=1e-9), "compute"),
        (ceilings(copy=WORKLOAD.bytes / 1e9), "memory"),
        (ceilings(write=OUTPUT_BYTES / 1e9), "memory"),
        (ceilings(copy=1e-9, move_gbs={WORKLOAD.id: WORKLOAD.bytes / 1e9}), "memory"),
    ],
    ids=["product", "multiply-adds", "faster product", "copy", "write", "its own bytes"],
)
def test_time_is_that_of_the_tightest_limit(found, limit):
    assert (found.seconds(WORKLOAD), found.limit(WORKLOAD)) == (1.0, limit)


def test_another_workloads_bytes_say_nothing():
    found = ceilings(copy=WORKLOAD.bytes / 1e9, move_gbs={"another": 1e-9})
    assert found.seconds(WORKLOAD) == 1.0


def test_limits_are_rates_by_the_medians():
    second = Timing(2.0, 1.0, 3.0, 0.5, 9)
    names = ("product", "copy", "write", "fma", "move one", "bfloat16")
    work = {name: (place + 1) * 2 * 10**9 for place, name in enumerate(names)}
    found = Ceilings.of(dict.fromkeys(names, second), work, 2)
    assert found == Ceilings(1.0, 2.0, 3.0, 2, 4.0, {"one": 5.0}, bfloat16_gflops=6.0)


def test_tensor_cores_limit_float16_only():
    found = Ceilings(None, 1e9, 1e9, 1, fma_gflops=1.0, matrix_gflops=8.0, gpu="Tester")
    half = WORKLOAD.recast(dtype="float16")
    assert [found.peak_of(each) for each in (WORKLOAD, half)] == [1.0, 8.0]
    assert found.compute_seconds(half) == WORKLOAD.flops / 8e9
    assert found.compute_limits == {"multiply-adds": 1.0, "tensor cores": 8.0}
    one = Ceilings(None, 1e9, 1e9, 1, matrix_gflops=8.0)
    assert one.peak_of(half) == 8.0


@pytest.mark.parametrize(
    ("changes", "peak"),
    [
        ({}, ("multiply-adds", 1.0)),
        ({"dtype": "float16"}, ("multiply-adds", 1.0)),
        ({"dtype": "bfloat16"}, ("bfloat16 matrix unit", 8.0)),
        ({"precision": "bfloat16"}, ("bfloat16 matrix unit", 8.0)),
    ],
    ids=str,
)
def test_matrix_unit_limits_products_of_bfloat16_only(changes, peak):
    found = Ceilings(0.5, 1e9, 1e9, 1, fma_gflops=1.0, bfloat16_gflops=8.0)
    workload = WORKLOAD.recast(**changes)
    assert (found.peak_name(workload), found.peak_of(workload)) == peak
    assert found.compute_seconds(workload) == WORKLOAD.flops / peak[1] / 1e9
    assert found.peak_gflops == 8.0


def test_half_types_have_float32s_limit_where_there_is_no_unit():
    found = Ceilings(0.5, 1e9, 1e9, 1, fma_gflops=1.0)
    for dtype in ("float16", "bfloat16"):
        assert found.peak_of(WORKLOAD.recast(dtype=dtype)) == 1.0


def test_limits_of_a_gpu_have_no_product():
    second = Timing(1.0, 1.0, 1.0, 1.0, 9)
    names = ("copy", "write", "matrix")
    found = Ceilings.of(dict.fromkeys(names, second), dict.fromkeys(names, 10**9), 2)
    assert found == Ceilings(None, 1.0, 1.0, 2, matrix_gflops=1.0)


def test_limits_survive_json():
    found = ceilings(fma_gflops=2.0, move_gbs={WORKLOAD.id: 3.0})
    assert Ceilings(**json.loads(json.dumps(asdict(found)))) == found


def test_measurement_gives_positive_limits(monkeypatch):
    monkeypatch.setattr(
        ceiling,
        "loads",
        lambda pool, threads: {
            "product": load.sgemm(64),
            "copy": load.copy(pool, threads, 1 << 16),
            "write": load.write(pool, threads, 1 << 16),
        },
    )
    monkeypatch.setattr(ceiling, "rest", lambda: True)
    more = {load.FMA: (lambda: None, 1)}
    found = ceiling.measure(2, 0, [WORKLOAD], more)
    assert min(found.gflops, found.copy_gbs, found.write_gbs, found.fma_gflops) > 0
    assert found.move_gbs[WORKLOAD.id] > 0
    assert found.threads == 2
