"""Does the definition, before anything is scheduled, say what the operator is?"""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from tvm_conv3dt.compiler.definition import define
from tvm_conv3dt.compiler.kernel import compile_kernel, new_schedule
from tvm_conv3dt.compiler.layout import PHASES, Layout
from tvm_conv3dt.compiler.spaces.llvm import layout_of
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import Workload

from . import geometries
from .geometries import COMMON

BIASED = Workload.make((1, 2, 2, 5, 3), (3, 3, 3, 9, 3), (1, 4, 4, 10, 9), 2, bias=True)

# What is special about the geometry -> input, kernel, output, strides, padding, dilations.
GEOMETRIES = {
    **COMMON,
    "kernel equals stride": ((2, 3, 4), (2, 2, 2), (4, 6, 8), (2, 2, 2), "VALID", 1),
    "least output": ((3, 3, 3), (3, 4, 2), (5, 5, 5), (2, 2, 2), "SAME", 1),
    "no stride": ((3, 4, 5), (3, 2, 1), (3, 4, 5), (1, 1, 1), "SAME", 1),
    "output below stride": ((1, 1, 1), (3, 3, 3), (1, 2, 3), (4, 4, 4), "SAME", 1),
    "more cut before": ((2, 3, 4), (3, 3, 3), (4, 6, 8), (2, 2, 2), (1, 1, 1), 1),
    "more cut than a stride": ((3, 3, 5), (5, 4, 3), (2, 3, 4), (2, 1, 2), (5, 3, 4), 1),
    "much cut after": ((4, 4, 4), (3, 3, 3), (3, 2, 1), (2, 2, 2), (0, 1, 2), 1),
    "long zero tail": ((2, 2, 3), (2, 3, 2), (4, 6, 5), (1, 1, 1), (1, 0, 1), (3, 2, 3)),
    "cut and dilated": ((3, 2, 3), (3, 2, 3), (5, 4, 6), (2, 3, 4), (3, 1, 5), (3, 2, 6)),
    "nothing left": ((3, 3, 3), (2, 1, 2), (2, 1, 1), (3, 4, 2), (8, 1, 6), 1),
}


def make(geometry, batch=1, in_channels=3, out_channels=5):
    return geometries.make(geometry, batch, in_channels, out_channels)


def unscheduled(workload, device, formulation=PHASES):
    layout = layout_of(workload, device, formulation)
    return compile_kernel(layout, device, new_schedule(layout))


def result(workload, device, call, seed=0, formulation=PHASES):
    x, filters, bias = integer_data(workload, seed)
    kernel = unscheduled(workload, device, formulation)
    return call(kernel, x, filters, bias), reference(workload, x, filters, bias)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_unscheduled_definition_is_exact(name, host, call):
    found, expected = result(make(GEOMETRIES[name]), host, call)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("formulation", ["fold-w", "fold-hw", "fold-dhw"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_folded_definition_is_exact(name, formulation, host, call):
    found, expected = result(make(GEOMETRIES[name]), host, call, formulation=formulation)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("bits", [128, 512])
def test_result_does_not_depend_on_the_vector(bits, host, call, small):
    found, expected = result(small, replace(host, vector_bits=bits), call)
    assert np.array_equal(found, expected)


def test_batches_stay_apart(host, call):
    workload = make(GEOMETRIES["taps differ by phase"], batch=3)
    found, expected = result(workload, host, call)
    assert np.array_equal(found, expected)


def test_arguments_come_in_order_with_their_shapes():
    function = define(Layout(BIASED, 8))
    found = {p.name: [int(size) for size in p.shape] for p in function.params}
    assert found == {
        "x": [1, 2, 2, 5, 3],
        "packed": [2, 3, 3, 3, 3, 8],
        "bias": [9],
        "y": [1, 4, 4, 10, 9],
    }
    assert list(found) == ["x", "packed", "bias", "y"]


def test_only_packed_filters_must_be_aligned():
    alignments = {p.name: int(p.data_alignment) for p in define(Layout(BIASED, 8)).params}
    assert alignments == {"x": 4, "packed": 64, "bias": 4, "y": 4}


def test_function_is_named_as_told(small):
    assert define(Layout(small, 8), "some_name").attrs["global_symbol"] == "some_name"


def test_input_that_needs_no_zeros_is_read_in_place():
    text = str(define(Layout(make(GEOMETRIES["kernel equals stride"]), 8)))
    assert "padded" not in text
    assert "if_then_else" not in text


def test_input_is_padded_where_taps_reach_over_its_ends(small):
    assert 'sblock("padded")' in str(define(Layout(small, 8)))


def test_infinity_reaches_only_outputs_of_its_own_taps(host, call):
    workload = Workload.make((1, 1, 1, 4, 1), (1, 1, 3, 1, 1), (1, 1, 1, 8, 1), (1, 1, 2))
    x, filters = np.ones(workload.input, np.float32), np.ones(workload.filters, np.float32)
    x[0, 0, 0, 1] = np.inf
    kernel = unscheduled(workload, host)
    found = call(kernel, x, filters).ravel().tolist()
    assert found == [1, 1, np.inf, np.inf, np.inf, 1, 2, 1]
