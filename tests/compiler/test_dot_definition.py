"""Does the definition with input channels in the lanes, before anything is scheduled, say what the operator is?"""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from tvm_conv3dt.compiler.definition import define
from tvm_conv3dt.compiler.dot_layout import DotLayout
from tvm_conv3dt.compiler.kernel import compile_kernel, new_schedule
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import Workload

from . import geometries
from .geometries import COMMON

# What is special about the geometry -> input, kernel, output, strides, padding, dilations.
GEOMETRIES = {
    **COMMON,
    "kernel equals stride": ((2, 3, 5), (2, 2, 2), (4, 6, 10), (2, 2, 2), "VALID", 1),
    "least output": ((3, 3, 9), (3, 4, 2), (5, 5, 17), (2, 2, 2), "SAME", 1),
    "no stride": ((3, 5, 9), (3, 2, 1), (3, 5, 9), (1, 1, 1), "SAME", 1),
    "one output in a row": ((2, 2, 1), (3, 3, 3), (4, 4, 1), (2, 2, 1), "SAME", 1),
    "nine taps": ((4, 4, 9), (9, 9, 9), (8, 8, 18), (2, 2, 2), "SAME", 1),
}
BIASED = Workload.make((1, 2, 5, 5, 17), (3, 3, 3, 3, 17), (1, 4, 10, 10, 3), 2, bias=True)


def make(geometry, batch=1, in_channels=9, out_channels=1):
    return geometries.make(geometry, batch, in_channels, out_channels)


def assert_exact(workload, device, call):
    x, filters, bias = integer_data(workload, seed=0)
    layout = DotLayout(workload, device.vector_bits // 32)
    kernel = compile_kernel(layout, device, new_schedule(layout))
    assert np.array_equal(call(kernel, x, filters, bias), reference(workload, x, filters, bias))


@pytest.mark.parametrize("name", GEOMETRIES)
def test_unscheduled_definition_is_exact(name, host, call):
    assert_exact(make(GEOMETRIES[name]), replace(host, vector_bits=128), call)


@pytest.mark.parametrize(
    ("bits", "in_channels", "out_channels"),
    [
        *((128, 16, 1), (128, 17, 2), (256, 17, 2), (256, 24, 3), (256, 35, 4)),
        *((512, 16, 8), (512, 17, 2), (512, 24, 3), (512, 35, 4)),
    ],
)
def test_result_does_not_depend_on_the_vector(bits, in_channels, out_channels, host, call):
    workload = make(GEOMETRIES["kernel equals stride"], 1, in_channels, out_channels)
    assert_exact(workload, replace(host, vector_bits=bits), call)


def test_batches_stay_apart(host, call):
    workload = make(GEOMETRIES["taps differ by phase"], batch=3)
    assert_exact(workload, replace(host, vector_bits=128), call)


def test_arguments_come_in_order_with_their_shapes():
    function = define(DotLayout(BIASED, 8))
    found = {p.name: [int(size) for size in p.shape] for p in function.params}
    assert found == {
        "x": [1, 2, 5, 5, 17],
        "packed": [3, 3, 3, 3, 3, 8],
        "bias": [3],
        "y": [1, 4, 10, 10, 3],
    }
    assert list(found) == ["x", "packed", "bias", "y"]


def test_only_packed_filters_must_be_aligned():
    alignments = {p.name: int(p.data_alignment) for p in define(DotLayout(BIASED, 8)).params}
    assert alignments == {"x": 4, "packed": 64, "bias": 4, "y": 4}


def test_function_is_named_as_told():
    function = define(DotLayout(BIASED, 8), "some_name")
    assert function.attrs["global_symbol"] == "some_name"


def test_taps_that_never_leave_have_no_condition():
    workload = Workload.make((1, 2, 4, 4, 8), (2, 2, 2, 1, 8), (1, 4, 8, 8, 1), 2, "VALID")
    assert "if_then_else" not in str(define(DotLayout(workload, 8)))
