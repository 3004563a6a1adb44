"""Are casts to bfloat16 rounded as bfloat16 is, by integers and by the instruction?"""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

tvm = pytest.importorskip("tvm")
from tvm import te
from tvm.s_tir import Schedule

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.elements import narrow
from tvm_conv3dt.compiler.pipeline import CPU, place_buffers
from tvm_conv3dt.compiler.target import target_of

UNIT = catalogue.get("x86-64-v4-amx")


def rounded(values, device, lanes):
    """What compiled code makes of values, so many at a time."""
    x = te.placeholder(values.shape, "float32", "x")
    y = te.compute(values.shape, lambda i: narrow(x[i], "uint16", cast=True), "y")
    schedule = Schedule(te.create_prim_func([x, y]))
    (loop,) = schedule.get_loops(schedule.get_sblock("y"))
    if lanes > 1:
        schedule.vectorize(schedule.split(loop, [None, lanes])[1])
    run = tvm.compile(place_buffers(schedule.mod), target=target_of(device), tir_pipeline=CPU)
    found = tvm.runtime.tensor(np.zeros(values.shape, np.uint16))
    run["main"](tvm.runtime.tensor(values), found)
    return found.numpy().view(ml_dtypes.bfloat16)


def values():
    """Halfway cases and their neighbours, the largest numbers, infinities, and numbers at random."""
    upper = np.arange(0x3F80, 0x4080, dtype=np.uint32) << 16
    close = [upper | low for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]
    some = np.concatenate(close).view(np.float32)
    special = np.array([0, -0.0, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-37, -1e-37], np.float32)
    drawn = np.random.default_rng(0).standard_normal(1024).astype(np.float32)
    return np.concatenate([some, -some, special, special, drawn])


@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
def test_integers_round_to_nearest_even(lanes, host):
    without = [each for each in host.mattr if each != "+avx512bf16"]
    found = rounded(values(), replace(host, mattr=tuple(without)), lanes)
    assert found.tobytes() == values().astype(ml_dtypes.bfloat16).tobytes()


@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
def test_instruction_rounds_to_nearest_even(lanes, host):
    if "+avx512bf16" not in host.mattr:
        pytest.skip("this CPU has no AVX512-BF16")
    found = rounded(values(), host, lanes)
    assert found.tobytes() == values().astype(ml_dtypes.bfloat16).tobytes()


@pytest.mark.parametrize("lanes", [1, 16])
def test_nan_stays_one(lanes, host):
    found = rounded(np.full(32, np.nan, np.float32), host, lanes)
    assert np.isnan(found.astype(np.float32)).all()


def test_vectors_take_the_instruction():
    x = te.placeholder((64,), "float32", "x")
    y = te.compute((64,), lambda i: narrow(x[i], "uint16", cast=True), "y")
    schedule = Schedule(te.create_prim_func([x, y]))
    (loop,) = schedule.get_loops(schedule.get_sblock("y"))
    schedule.vectorize(schedule.split(loop, [None, 16])[1])
    run = tvm.compile(place_buffers(schedule.mod), target=target_of(UNIT), tir_pipeline=CPU)
    assert "vcvtneps2bf16" in run.mod.inspect_source("s")
