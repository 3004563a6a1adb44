"""Is what a position lacks skipped, where adding a zero would not be the same?"""

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

import tvm_ffi
from tvm import te, tirx

from tvm_conv3dt.compiler.absent_taps import skip_absent_taps

EXTENT = 8


def summed(present):
    """``y[i] = sum over j of x[i + j] where present(i, j)``, of three terms."""
    x = te.placeholder((EXTENT + 2,), "float32", "x")
    j = te.reduce_axis((0, 3), "j")

    def terms(i):
        term = x[i + j]
        condition = present(i, j)
        if condition is not None:
            term = tirx.if_then_else(condition, term, tirx.const(0, "float32"))
        return te.sum(term, axis=[j])

    return te.create_prim_func([x, te.compute((EXTENT,), terms, "y")])


def run(function, x):
    y = tvm.runtime.tensor(np.full(EXTENT, np.nan, np.float32))
    tvm.compile(function, target="llvm")(tvm.runtime.tensor(x), y)
    return y.numpy()


def statements(function, kind):
    found = []
    tvm_ffi.structural_walk(function, (kind, found.append))
    return found


CONDITIONS = {
    "of the position": lambda i, j: i < 5,
    "of the tap": lambda i, j: j != 1,
    "of both": lambda i, j: tirx.all(i + j > 2, i + j < 7),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_sums_are_those_of_what_is_present(name):
    function = summed(CONDITIONS[name])
    x = np.arange(1, EXTENT + 3, dtype=np.float32)
    skipped = skip_absent_taps(function)
    assert "if_then_else" not in str(skipped)
    assert len(statements(skipped, tirx.IfThenElse)) == 1
    assert np.array_equal(run(skipped, x), run(function, x))


def test_what_is_absent_is_not_touched():
    """An infinity that every condition keeps out reaches nothing, nor does what is absent make zero of -0."""
    x = -np.zeros(EXTENT + 2, np.float32)
    x[4] = np.inf
    found = run(skip_absent_taps(summed(lambda i, j: i + j != 4)), x)
    assert np.array_equal(found, np.zeros(EXTENT))


def test_sum_without_conditions_is_left_alone():
    function = summed(lambda i, j: None)
    assert tvm_ffi.structural_equal(skip_absent_taps(function), function)


def test_condition_that_is_no_sums_is_left_alone():
    x = te.placeholder((EXTENT,), "float32", "x")
    zero = tirx.const(0, "float32")
    y = te.compute((EXTENT,), lambda i: tirx.if_then_else(i < 5, x[i], zero), "y")
    function = te.create_prim_func([x, y])
    assert tvm_ffi.structural_equal(skip_absent_taps(function), function)
