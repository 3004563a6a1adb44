"""Are tiles turned whole, whatever their sides, and is nothing else touched?"""

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

import tvm_ffi
from tvm import s_tir, te, tirx

from tvm_conv3dt.compiler.overlap import overlap_tiles
from tvm_conv3dt.compiler.target import target_of
from tvm_conv3dt.compiler.turning import TURN, turn_tiles

SIDES = (1, 2, 4, 8, 16)


def scheduled(width, channels, tile, other, turn=True):
    """``y[r, w, c] = x[r, c, w]`` by tiles of `tile` widths and `other` channels."""
    x = te.placeholder((2, channels, width), "float32", "x")
    y = te.compute((2, width, channels), lambda r, w, c: x[r, c, w], "y")
    sch = s_tir.Schedule(te.create_prim_func([x, y]))
    _, w, c = sch.get_loops("y")
    w_outer, w_inner = sch.split(w, [None, tile])
    c_outer, c_inner = sch.split(c, [None, other])
    sch.reorder(w_outer, c_outer, w_inner, c_inner)
    sch.unroll(w_inner)
    sch.unroll(c_inner)
    if turn:
        sch.annotate(sch.get_sblock("y"), TURN, 1)
    return overlap_tiles(next(iter(sch.mod.functions.values())))


def result(function, x, shape, host):
    module = tvm.compile(tvm.IRModule({"main": function}), target=target_of(host))
    y = tvm.runtime.tensor(np.full(shape, np.nan, np.float32))
    module["main"](tvm.runtime.tensor(x), y)
    return y.numpy()


@pytest.mark.parametrize("other", SIDES)
@pytest.mark.parametrize("tile", SIDES)
def test_tile_of_any_sides_is_turned(tile, other, host):
    # One more than a tile: the last one overlaps with that before.
    width, channels = tile + 1, other + 1
    x = np.arange(2 * channels * width, dtype=np.float32).reshape(2, channels, width)
    function = turn_tiles(scheduled(width, channels, tile, other))
    found = result(function, x, (2, width, channels), host)
    assert np.array_equal(found, x.transpose(0, 2, 1))


def test_turned_tile_is_vectors_only():
    vectors = []

    def load(each):
        vectors.append(each.indices[-1])

    function = turn_tiles(scheduled(16, 8, 8, 8))
    tvm_ffi.structural_walk(function, (tvm.ir.TensorLoad, load))
    assert len(vectors) == 8
    assert all(isinstance(index, tirx.Ramp) for index in vectors)


def test_block_without_annotation_stays_as_it_is():
    function = scheduled(16, 8, 8, 8, turn=False)
    assert tvm_ffi.structural_equal(turn_tiles(function), function)
