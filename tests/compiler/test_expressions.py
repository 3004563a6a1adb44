"""Are variables replaced by their numbers, and what is left simplified?"""

import pytest

tvm = pytest.importorskip("tvm")

import tvm_ffi
from tvm import tirx

from tvm_conv3dt.compiler.expressions import at, pick


def test_given_variables_become_numbers_and_others_stay():
    i, j = tirx.Var("i", "int32"), tirx.Var("j", "int32")
    assert int(at(i * 4 + j, {i: 2, j: 3})) == 11
    assert tvm_ffi.structural_equal(at(i * 4 + j, {i: 0}), j)
    assert tvm_ffi.structural_equal(at(i + j, {}), i + j)


def test_number_has_the_variables_type():
    i = tirx.Var("i", "int64")
    assert at(i + 1, {i: 2}).ty.dtype == "int64"


def test_pick_is_the_value_of_a_number():
    i = tirx.Var("i", "int32")
    found = pick(i, [tirx.const(value, "int32") for value in (7, 5, 9)])
    assert [int(at(found, {i: number})) for number in range(3)] == [7, 5, 9]
    assert pick(i, [4]) == 4
