"""What becomes of manifests of earlier schemas."""

import copy

import pytest

from tvm_conv3dt.manifest_schema import READABLE, SCHEMA, lifted

FILE = {"file": "a.so", "sha256": "ab" * 32, "bytes": 1}
KERNEL_2 = {"layer": "a", "library": FILE, "packed_shape": [1], "workspace_bytes": 0}
MANIFEST_2 = {
    "schema": 2,
    "layers": [{"name": "a", "workload": {"dtype": "float32"}}],
    "levels": [{"device": "x", "mcpu": "x", "cpu_features": [], "kernels": [KERNEL_2]}],
}


def schema_2(**change):
    return copy.deepcopy(MANIFEST_2) | change


def test_present_schema_is_the_last_that_is_read():
    assert READABLE[-1] == SCHEMA == 3
    assert list(READABLE) == sorted(READABLE)


def test_schema_2_becomes_the_present_one():
    found = lifted(schema_2())
    assert found == {
        "schema": 3,
        "cuda": None,
        "wrapper": None,
        "layers": MANIFEST_2["layers"],
        "levels": [
            {
                **MANIFEST_2["levels"][0],
                "gpu_arch": None,
                "kernels": [{**KERNEL_2, "packed_dtype": "float32", "resources": []}],
            }
        ],
    }


@pytest.mark.parametrize(
    ("dtype", "packed"),
    [
        ("float32", "float32"),
        ("float64", "float64"),
        ("float16", "float32"),
        ("bfloat16", "float32"),
    ],
)
def test_packed_filters_of_schema_2_have_the_type_of_the_sums(dtype, packed):
    layers = [{"name": "a", "workload": {"dtype": dtype}}]
    found = lifted(schema_2(layers=layers))
    assert found["levels"][0]["kernels"][0]["packed_dtype"] == packed


def test_present_schema_without_a_wrapper_is_one_that_has_none():
    assert lifted({"schema": 3, "package": "0.1.0"}) == {
        "schema": 3,
        "package": "0.1.0",
        "wrapper": None,
    }


def test_wrapper_stays():
    assert lifted({"schema": 3, "wrapper": FILE})["wrapper"] == FILE


@pytest.mark.parametrize(
    "change",
    [
        {"layers": None},
        {"layers": [None, {"workload": 3}]},
        {"levels": {}},
        {"levels": [3, {"kernels": [None]}, {}]},
        {"layers": [{"name": {"a": 1}, "workload": {}}]},
    ],
)
def test_damaged_places_are_left_for_the_reader_to_refuse(change):
    found = lifted(schema_2(**change))
    assert found["schema"] == 3
    for name, value in change.items():
        if not isinstance(value, list):
            assert found[name] == value
