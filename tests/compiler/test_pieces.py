"""Do pieces make up the number, and their products the product?"""

from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest

tvm = pytest.importorskip("tvm")
from tvm import te
from tvm.s_tir import Schedule

from tvm_conv3dt.compiler.pieces import CORRECTIONS, PIECES, piece
from tvm_conv3dt.compiler.pipeline import CPU, place_buffers
from tvm_conv3dt.compiler.target import target_of


@pytest.fixture(params=[1, 16], ids=["scalars", "vectors"])
def pieces(request, host):
    """``pieces(values)``: the pieces that compiled code makes of numbers."""

    def pieces(values):
        x = te.placeholder(values.shape, "float32", "x")
        shape = (PIECES, *values.shape)
        cast = request.param > 1
        y = te.compute(shape, lambda p, i: piece(x[i], p, cast), "y")
        schedule = Schedule(te.create_prim_func([x, y]))
        number, loop = schedule.get_loops(schedule.get_sblock("y"))
        schedule.unroll(number)
        if cast:
            schedule.vectorize(schedule.split(loop, [None, request.param])[1])
        run = tvm.compile(place_buffers(schedule.mod), target=target_of(host), tir_pipeline=CPU)
        found = tvm.runtime.tensor(np.zeros(shape, np.uint16))
        run["main"](tvm.runtime.tensor(values), found)
        return found.numpy().view(ml_dtypes.bfloat16).astype(np.float64)

    return pieces


def numbers():
    """Numbers of 24 bits at random, of all sizes that have no piece below 2**-126, and the largest."""
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal(4096) * 2.0 ** rng.integers(-98, 124, 4096)
    special = [0, 1, 1 + 2**-23, 1 - 2**-24, 2**24 - 1, *[np.finfo(np.float32).max] * 3]
    return np.concatenate([drawn, special, -np.array(special)]).astype(np.float32)


def test_pieces_make_up_the_number(pieces):
    found = pieces(numbers())
    np.testing.assert_array_equal(found.sum(0), numbers().astype(np.float64))


def test_each_piece_is_small_beside_the_one_before(pieces):
    found = abs(pieces(numbers()))
    top = abs(numbers()) > 2.0**127  # where the first is not rounded but the largest there is
    for before, after in pairwise(found):
        assert np.all((after <= 2**-8 * before) | top)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan], ids=str)
def test_what_is_no_number_is_its_own_first_piece_and_has_no_others(value, pieces):
    found = pieces(np.full(32, value, np.float32))
    np.testing.assert_array_equal(found[0], np.full(32, value))
    assert not np.isfinite(found[1:]).any()


def test_six_products_are_off_by_less_than_two_roundoffs(pieces):
    x, y = numbers(), numbers()[::-1].copy()
    small = abs(np.log2(np.maximum(abs(x), 1e-30) * np.maximum(abs(y), 1e-30))) < 100
    a, b = pieces(x)[:, small], pieces(y)[:, small]
    made = sum(a[p] * b[q] for p, q in ((0, 0), *CORRECTIONS))
    exact = x[small].astype(np.float64) * y[small]
    assert small.sum() > 1000
    assert np.all(abs(made - exact) <= 2.0**-23 * abs(exact))
