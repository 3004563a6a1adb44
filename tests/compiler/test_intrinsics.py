"""Do shuffles put, and add up, each lane in its own place?"""

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from tvm import s_tir, te

from tvm_conv3dt.compiler.intrinsics import lane_sums, turned_pairs, woven
from tvm_conv3dt.compiler.target import target_of

ROWS = 3


def scheduled(lanes, count):
    """Sums of rows of `count` vectors each, by the intrinsic."""
    a = te.placeholder((ROWS, count, lanes), "float32", "a")
    vectors = te.compute(a.shape, lambda *index: a[index], "vectors")
    lane = te.reduce_axis((0, lanes), "lane")
    sums = te.compute((ROWS, count), lambda r, i: te.sum(vectors[r, i, lane], axis=[lane]), "sums")
    y = te.compute((ROWS, count), lambda *index: sums[index], "y")
    sch = s_tir.Schedule(te.create_prim_func([a, y]))
    row, _ = sch.get_loops("y")
    for name in ("sums", "vectors"):
        block = sch.get_sblock(name)
        sch.compute_at(block, row, preserve_unit_loops=True)
        sch.set_scope(block, 0, "local")
    *_, vector, _ = sch.get_loops("sums")
    sch.decompose_reduction("sums", vector)
    sch.tensorize(vector, lane_sums(lanes, count))
    return sch


@pytest.mark.parametrize(
    ("lanes", "count"), [(lanes, count) for lanes in (2, 4, 8, 16) for count in range(2, lanes + 1)]
)
def test_sums_are_exact(lanes, count, host):
    module = tvm.compile(scheduled(lanes, count).mod, target=target_of(host))
    a = np.random.default_rng(0).integers(-999, 1000, (ROWS, count, lanes)).astype(np.float32)
    y = tvm.runtime.tensor(np.full((ROWS, count), np.nan, np.float32))
    module["main"](tvm.runtime.tensor(a), y)
    assert np.array_equal(y.numpy(), a.sum(axis=-1))


def test_values_that_are_not_finite_stay_in_their_sum(host):
    module = tvm.compile(scheduled(8, 8).mod, target=target_of(host))
    a = np.ones((ROWS, 8, 8), np.float32)
    a[0, 1, 3], a[0, 2, 7], a[2, 7, 0] = np.inf, np.nan, -np.inf
    y = tvm.runtime.tensor(np.full((ROWS, 8), np.nan, np.float32))
    module["main"](tvm.runtime.tensor(a), y)
    np.testing.assert_array_equal(y.numpy(), a.sum(axis=-1))


def test_name_tells_vectors_and_lanes():
    assert lane_sums(8, 6) == "conv3d_transpose.lane_sums.6.float32x8"


def test_each_is_registered_once():
    assert lane_sums(8, 6) is lane_sums(8, 6)


def test_no_lane_is_added_alone():
    text = str(scheduled(8, 8).mod)
    assert text.count("T.Shuffle") == 2 * (4 + 2 + 1)


def copied(shapes, scopes, dtype, element, block_axes, intrinsic):
    """What the middle one of three copies is, of arrays in such memory, that an intrinsic makes of the last axes."""
    before, after = shapes
    a = te.placeholder((ROWS, *before), dtype, "a")
    near = te.compute(a.shape, lambda *index: a[index], "near")
    made = te.compute((ROWS, *after), lambda r, *index: near[(r, *element(*index))], "made")
    y = te.compute(made.shape, lambda *index: made[index], "y")
    sch = s_tir.Schedule(te.create_prim_func([a, y]))
    row = sch.get_loops("y")[0]
    for name, scope in zip(("made", "near"), reversed(scopes), strict=True):
        block = sch.get_sblock(name)
        sch.compute_at(block, row, preserve_unit_loops=True)
        sch.set_scope(block, 0, scope)
    sch.tensorize(sch.get_loops("made")[-block_axes], intrinsic)
    return sch


@pytest.mark.parametrize("count", [2, 3, 4, 6, 16])
@pytest.mark.parametrize("lanes", [4, 16])
def test_woven_vectors_take_turns(lanes, count, host):
    sch = copied(
        ((count, lanes), (lanes, count)),
        ("local", "local"),
        "float32",
        lambda j, i: (i, j),
        2,
        woven(lanes, count),
    )
    a = np.arange(ROWS * count * lanes, dtype=np.float32).reshape(ROWS, count, lanes)
    y = tvm.runtime.tensor(np.full((ROWS, lanes, count), np.nan, np.float32))
    tvm.compile(sch.mod, target=target_of(host))["main"](tvm.runtime.tensor(a), y)
    assert np.array_equal(y.numpy(), a.swapaxes(1, 2))


@pytest.mark.parametrize(("pairs", "positions"), [(16, 16), (4, 8), (8, 4)])
def test_turned_pairs_stay_together(pairs, positions, host):
    sch = copied(
        ((positions, 2 * pairs), (pairs, positions, 2)),
        ("local", "global"),
        "uint16",
        lambda k, v, e: (v, k * 2 + e),
        3,
        turned_pairs(pairs, positions, "uint16"),
    )
    a = np.arange(ROWS * positions * pairs * 2, dtype=np.uint16)
    a = a.reshape(ROWS, positions, 2 * pairs)
    y = tvm.runtime.tensor(np.zeros((ROWS, pairs, positions, 2), np.uint16))
    tvm.compile(sch.mod, target=target_of(host))["main"](tvm.runtime.tensor(a), y)
    expected = a.reshape(ROWS, positions, pairs, 2).swapaxes(1, 2)
    assert np.array_equal(y.numpy(), expected)
