"""Do errors say what they must, to programs and to people?"""

import inspect

import numpy as np
import pytest

from tvm_conv3dt import errors

CLASSES = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, errors.Conv3dtError)
]


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_is_public_and_has_an_exit_code(error):
    assert error.__name__ in errors.__all__
    assert error.exit_code in (1, 2, 3)


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_keeps_its_message(error):
    assert str(error("what went wrong")) == "what went wrong"


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.WorkloadError, ValueError),
        (errors.ArgumentTypeError, TypeError),
        (errors.UnsupportedError, NotImplementedError),
        (errors.WorkloadNotFoundError, LookupError),
        (errors.CompilerMissingError, ImportError),
        (errors.LibraryError, OSError),
    ],
)
def test_an_error_is_also_the_builtin_that_fits(error, builtin):
    assert issubclass(error, builtin)


def test_a_message_names_verb_object_value_and_rule():
    message = errors.describe("read", "manifest", "m.json", "it is empty", "build it again")
    assert message == "failed to read manifest with m.json: it is empty; build it again"


def test_a_message_without_a_remedy_ends_with_the_rule():
    assert errors.describe("a", "b", "c", "d") == "failed to a b with c: d"


def test_show_prints_ordinary_values_like_repr():
    assert errors.show([1, 16, 16, 16, 256]) == "[1, 16, 16, 16, 256]"


class Hostile:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [
        10**100000,
        [10**100000],
        "x" * 10**6,
        list(range(10**5)),
        np.zeros((9, 9, 9, 9)).tolist(),
        [["x" * 80] * 8] * 8,
        np.zeros((50, 50)),
        Hostile(),
    ],
    ids=[
        "integer",
        "list with integer",
        "str",
        "list",
        "lists of lists",
        "lists of texts",
        "array",
        "failing repr",
    ],
)
def test_show_is_short_on_one_line_and_never_fails(value):
    text = errors.show(value)
    assert len(text) <= 300
    assert "\n" not in text
