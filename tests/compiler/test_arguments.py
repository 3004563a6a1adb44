"""Are a function's arguments replaced, and nothing else?"""

import pytest

pytest.importorskip("tvm")

from tvm import te, tirx

from tvm_conv3dt.compiler.arguments import element_aligned
from tvm_conv3dt.compiler.expressions import replaced


@pytest.fixture
def function():
    a = te.placeholder((4,), "float32", "a")
    b = te.placeholder((4,), "float64", "b")
    c = te.compute((4,), lambda i: a[i] * a[i] + b[i].astype("float32"), "c")
    return te.create_prim_func([a, b, c])


def test_named_arguments_are_aligned_to_one_element(function):
    changed = element_aligned(function, ["a", "b"])
    assert [(p.name, int(p.data_alignment)) for p in changed.params] == [
        ("a", 4),
        ("b", 8),
        ("c", 64),
    ]


def test_given_function_stays_as_it_is(function):
    element_aligned(function, ["a"])
    assert [int(p.data_alignment) for p in function.params] == [64, 64, 64]


def test_name_of_no_argument_changes_nothing(function):
    assert str(element_aligned(function, ["nothing"])) == str(function)


def test_argument_is_replaced_wherever_it_is_used(function):
    other = tirx.decl_buffer((4,), "float32", "other")
    text = str(replaced(function, [(function.params[0], other)]))
    assert "other[v_i] * other[v_i]" in text
    assert "a[" not in text
