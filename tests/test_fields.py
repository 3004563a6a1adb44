"""Strict access to fields: what each kind accepts, and that messages name file and field."""

import pytest

from tvm_conv3dt.errors import FileFormatError
from tvm_conv3dt.fields import Fields


def fields(**values):
    return Fields("a.json", values)


def test_each_kind_is_returned():
    taken = fields(a="x", b=3, c=1.5, d=None, e=["x"], f=[1, 2], g={"h": 1}, i=[{"j": "y"}], k={})
    assert (taken.text("a"), taken.integer("b")) == ("x", 3)
    assert (taken.optional_number("c"), taken.optional_number("d")) == (1.5, None)
    assert (taken.texts("e"), taken.integers("f")) == (("x",), (1, 2))
    assert taken.child("g").integer("h") == 1
    assert [child.text("j") for child in taken.children("i")] == ["y"]
    assert taken.mapping("k") == {}
    taken.finish()


def test_what_may_be_null_is_returned_either_way():
    taken = fields(a=None, b="x", c=None, d={"e": 1})
    assert (taken.optional_text("a"), taken.optional_text("b")) == (None, "x")
    assert taken.optional_child("c") is None
    child = taken.optional_child("d")
    assert child is not None
    assert child.integer("e") == 1
    taken.finish()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", 3),
        ("text", None),
        ("optional_text", 3),
        ("optional_child", []),
        ("integer", True),
        ("integer", 3.0),
        ("integer", "3"),
        ("integer", -1),
        ("integer", 2**63),
        ("optional_number", "1"),
        ("optional_number", True),
        ("optional_number", float("inf")),
        ("optional_number", 10**400),
        ("texts", "x"),
        ("texts", ["x", 1]),
        ("integers", [1, -1]),
        ("integers", [True]),
        ("integers", {"0": 1}),
        ("child", []),
        ("children", {}),
        ("children", [1]),
        ("mapping", []),
    ],
)
def test_value_of_another_kind_is_refused(kind, value):
    with pytest.raises(FileFormatError, match=r"failed to read file a\.json with field.*="):
        getattr(fields(field=value), kind)("field")


@pytest.mark.parametrize(
    "kind",
    [
        "text",
        "optional_text",
        "integer",
        "texts",
        "child",
        "optional_child",
        "children",
        "mapping",
    ],
)
def test_missing_field_is_refused(kind):
    with pytest.raises(FileFormatError, match="with field: the field is missing"):
        getattr(fields(), kind)("field")


def test_field_that_nothing_took_is_refused():
    left = fields(known=1, misspelt=2)
    left.integer("known")
    with pytest.raises(FileFormatError, match="misspelt=2: no such field is known"):
        left.finish()


def test_message_names_the_place_of_a_nested_field():
    layers = fields(layers=[{}, {"library": {"bytes": "many"}}]).children("layers")
    with pytest.raises(FileFormatError, match=r"with layers\[1\]\.library\.bytes='many'"):
        layers[1].child("library").integer("bytes")


@pytest.mark.parametrize("value", [None, [], 3, "x"])
def test_top_level_that_is_no_object_is_refused(value):
    with pytest.raises(FileFormatError, match=r"top level=.*must be an object"):
        Fields("a.json", value)
