"""Is every row of every tile stored once, with what its tile has, if the stores are among the next tile's products?"""

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

import tvm_ffi
from tvm import tirx
from tvm.script import tirx as T

from tvm_conv3dt.compiler.amx_instructions import MULTIPLY
from tvm_conv3dt.compiler.deferring import defer_stores
from tvm_conv3dt.compiler.tile_loops import loops_in


def written(outer, tiles, turns, rows, task=True):
    """A function of which each tile sums up `turns` numbers, and stores them once for each row, with the row's number."""

    kind = T.parallel if task else T.serial

    @T.prim_func(s_tir=True)
    def function(
        x: T.Buffer((outer * tiles * turns,), "int32"),
        y: T.Buffer((outer * tiles * rows * 2,), "int32"),
    ):
        for n in kind(outer):
            for t in range(tiles):
                sums = T.alloc_buffer((1,), "int32", scope="local")
                made = T.alloc_buffer((1,), "int32", scope="local")
                with T.attr(0, "pragma_conv3d_transpose.stands_for", "tilezero"):
                    made[0] = 0
                for k in range(turns):
                    with T.attr(0, "pragma_conv3d_transpose.stands_for", "tdpbf16ps"):
                        made[0] = made[0] + x[(n * tiles + t) * turns + k]
                with T.attr(0, "pragma_conv3d_transpose.stands_for", "tilestored64"):
                    sums[0] = made[0]
                for i in range(rows):
                    for j in range(2):
                        y[((n * tiles + t) * rows + i) * 2 + j] = sums[0] * 100 + i * 2 + j

    return function


def stores_among_products(function):
    """How many stores to y there are in loops that multiply."""
    found = []
    for loop in loops_in(function.body):
        if str(loop.loop_var.name) == "k":
            tvm_ffi.structural_walk(
                loop, (tirx.BufferStore, lambda each: found.append(str(each.buffer.name)))
            )
    return found.count("y")


@pytest.mark.parametrize("task", [True, False], ids=["tasks", "no tasks"])
@pytest.mark.parametrize(
    ("outer", "tiles", "turns", "rows"), [(2, 5, 4, 3), (1, 1, 1, 1), (3, 2, 1, 7), (2, 3, 9, 2)]
)
def test_results_are_the_same(outer, tiles, turns, rows, task):
    before = written(outer, tiles, turns, rows, task)
    after = defer_stores(before)
    assert stores_among_products(before) == 0
    assert stores_among_products(after) == 1
    x = np.arange(outer * tiles * turns, dtype=np.int32)
    expected = x.reshape(-1, turns).sum(axis=1)[:, None] * 100 + np.arange(rows * 2)
    y = tvm.runtime.tensor(np.full(expected.size, -1, np.int32))
    tvm.compile(after, target="llvm")(tvm.runtime.tensor(x), y)
    np.testing.assert_array_equal(y.numpy(), expected.ravel())


def test_other_functions_are_left_alone():
    @T.prim_func(s_tir=True)
    def function(x: T.Buffer((8,), "int32"), y: T.Buffer((8,), "int32")):
        for n in T.parallel(8):
            y[n] = x[n]

    assert tvm_ffi.structural_equal(defer_stores(function), function)
    assert MULTIPLY == "tdpbf16ps"
