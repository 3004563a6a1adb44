"""Are planes in a ring made before they are read, and kept until then?"""

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from tvm import s_tir, te, tirx

from tvm_conv3dt.compiler.pipeline import CPU, place_buffers
from tvm_conv3dt.compiler.rolling import ROLL, roll_planes
from tvm_conv3dt.compiler.target import target_of

PLANES, WIDTH = 5, 4


def scheduled(span, rolled=True):
    """Sums of `span` + 1 planes that follow each other, of what was made of each: its double."""
    x = te.placeholder((PLANES + span, WIDTH), "float32", "x")
    made = te.compute(x.shape, lambda d, w: x[d, w] * 2, "made")
    j = te.reduce_axis((0, span + 1), "j")
    sums = te.compute((PLANES, WIDTH), lambda q, w: te.sum(made[q + j, w], axis=[j]), "sums")
    sch = s_tir.Schedule(te.create_prim_func([x, sums]))
    if rolled:
        sch.annotate(sch.get_loops("made")[0], ROLL, f"made 0 {span}")
    return sch.mod


def lowered(module):
    passes = [
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.CompactBufferAllocation(),
    ]
    return roll_planes(tvm.ir.transform.Sequential(passes)(module)["main"])


def sizes(function):
    found = []
    tvm_ffi = pytest.importorskip("tvm_ffi")
    tvm_ffi.structural_walk(
        function,
        (s_tir.SBlock, lambda block: found.extend(b.shape[0] for b in block.alloc_buffers)),
    )
    return [int(each) for each in found]


@pytest.mark.parametrize("span", [0, 1, 2])
def test_sums_are_exact(span, host):
    x = np.arange((PLANES + span) * WIDTH, dtype=np.float32).reshape(-1, WIDTH)
    y = tvm.runtime.tensor(np.full((PLANES, WIDTH), np.nan, np.float32))
    module = tvm.compile(place_buffers(scheduled(span)), target=target_of(host), tir_pipeline=CPU)
    module["main"](tvm.runtime.tensor(x), y)
    assert np.array_equal(y.numpy(), [2 * x[q : q + span + 1].sum(axis=0) for q in range(PLANES)])


@pytest.mark.parametrize("span", [0, 1, 2])
def test_ring_has_the_planes_that_a_step_reads(span):
    assert sizes(lowered(scheduled(span))) == [span + 1]


def test_other_functions_are_left_alone():
    assert sizes(lowered(scheduled(1, rolled=False))) == [PLANES + 1]


def test_making_and_reading_take_turns():
    loops = []
    tvm_ffi = pytest.importorskip("tvm_ffi")
    tvm_ffi.structural_walk(
        lowered(scheduled(1)).body, (tirx.For, lambda loop: loops.append(int(loop.extent)))
    )
    assert loops.count(PLANES + 1) == 1
    assert PLANES not in loops
