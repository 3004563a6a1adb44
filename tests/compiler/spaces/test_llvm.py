"""Does the space hold every formulation that serves, and is each right?"""

from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.dot_layout import DotLayout
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.spaces import channel_nest, dot_nest, llvm
from tvm_conv3dt.compiler.spaces.default_point import default_points
from tvm_conv3dt.compiler.spaces.point import Family, point_of
from tvm_conv3dt.reference import reference
from tvm_conv3dt.spec import Workload

from ..geometries import evenly

V3 = catalogue.get("x86-64-v3")
BUILT_FOR = ["x86-64-v2", "x86-64-v4", "aarch64"]


def make(width, in_channels, out_channels, kernel=3, strides=2, dilation=1):
    """3 rows, and an output that ends one position early."""
    workload = Workload.make(
        (1, 2, 3, width, in_channels),
        (kernel, kernel, kernel, out_channels, in_channels),
        (1, 2 * strides, 3 * strides, width * strides - (strides > 1), out_channels),
        strides,
        dilations=dilation,
    )
    return workload


FEW_OF_BOTH = make(7, 4, 3)
FOLDED = make(7, 4, 3, kernel=4, strides=4)
FEW_OUTPUTS = make(7, 17, 1)
CHANNELS = make(5, 3, 17)


def scheduled(workload, device, point):
    layout = llvm.layout_of(workload, device, point.formulation)
    sch = kernel.new_schedule(layout)
    llvm.apply(sch, layout, device, point.family, point.choose)
    return sch


@pytest.mark.parametrize(
    "workload", [FEW_OF_BOTH, FOLDED, FEW_OUTPUTS, CHANNELS], ids=lambda w: w.id
)
@pytest.mark.parametrize("bits", [128, 256, 512])
def test_best_of_every_formulation_is_exact(workload, bits, host, inexact):
    device = replace(host, vector_bits=bits)
    assert inexact(workload, device, default_points(workload, device)) == []


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan], ids=str)
@pytest.mark.parametrize(
    "workload", [FEW_OF_BOTH, FOLDED, FEW_OUTPUTS, CHANNELS], ids=lambda w: w.id
)
def test_one_value_reaches_what_it_is_multiplied_into(workload, value, host, call, built):
    """By every formulation, and from each of two places: a corner, and a channel that two blocks share."""
    filters = np.random.default_rng(0).integers(1, 5, workload.filters).astype(np.float32)
    for place in ((0, 0, 0, 0, 0), (0, 1, 1, 4, workload.in_channels - 2)):
        x = np.ones(workload.input, np.float32)
        x[place] = value
        expected = reference(workload, x, filters)
        for point in default_points(workload, host):
            found = call(built(workload, host, point), x, filters)
            np.testing.assert_array_equal(found, expected, str(point))


@pytest.mark.parametrize("workload", [FOLDED, FEW_OUTPUTS, CHANNELS], ids=lambda w: w.id)
def test_trace_tells_its_point(workload):
    chosen = list(llvm.points(workload, V3))
    # One of each family, and of each of its decisions the last.
    chosen = list({(p.formulation, p.family): p for p in chosen}.values())
    assert [point_of(scheduled(workload, V3, point).trace) for point in chosen] == chosen


@pytest.mark.parametrize("workload", [FOLDED, FEW_OUTPUTS, CHANNELS], ids=lambda w: w.id)
def test_sampled_decisions_are_a_point_of_the_space(workload):
    found = set(llvm.points(workload, V3))
    for formulation in llvm.formulations(workload, V3):
        layout = llvm.layout_of(workload, V3, formulation)
        family = next(iter(llvm.families(layout, V3)))
        sch = kernel.new_schedule(layout)
        llvm.apply(sch, layout, V3, family, lambda name, candidates: None)
        assert point_of(sch.trace) in found


WINOGRAD = "winograd-"  # some of them
FOLDINGS = ["phases", "fold-dhw", "fold-hw", "fold-w"]


@pytest.mark.parametrize(
    ("workload", "found"),
    [
        (make(5, 1, 1, kernel=2), FOLDINGS),
        (make(5, 1, 1, kernel=3), ["phases"]),  # taps that differ would be zero filters
        (make(5, 3, 1, kernel=3), ["phases", "parts-phases"]),
        (make(5, 8, 1, kernel=3), ["phases", "parts-phases", "dot"]),
        (
            make(5, 8, 1, kernel=2),
            [*FOLDINGS, "parts-phases", "parts-fold-hw", "parts-fold-w", "dot"],
        ),
        (make(5, 8, 5, kernel=3), ["phases", WINOGRAD]),  # ten outputs of a position
        (make(5, 8, 8), ["phases", WINOGRAD, "whole-phases"]),
        # Rows that are too long to be whole in a tile.
        (make(9, 8, 8), ["phases", WINOGRAD]),
        (make(5, 64, 24, kernel=2), ["phases"]),
        (make(5, 8, 1, strides=1), ["phases", "parts-phases", "dot"]),
    ],
)
def test_formulations_are_those_that_may_serve(workload, found):
    names = (WINOGRAD if f.startswith(WINOGRAD) else f for f in llvm.formulations(workload, V3))
    assert [name for name, _ in groupby(names)] == found


@pytest.mark.parametrize("name", ["x86-64-v4", "x86-64-v4-amx"])
def test_precision_float32_is_by_taps(name):
    workload, device = evenly((64, 64), width=32), catalogue.get(name)
    assert len(llvm.formulations(workload, device)) > 2
    exact = workload.recast(precision="float32")
    assert llvm.formulations(exact, device) == ["phases"]


@pytest.mark.parametrize(
    ("kernel", "strides", "dilation", "dense"),
    [
        *((2, 2, 1, True), (3, 3, 1, True), (1, 1, 1, True), (3, 2, 1, False)),
        *((4, 2, 1, False), (1, 2, 1, False), (2, 3, 1, False), (2, 2, 2, False)),
    ],
)
def test_phases_are_folded_where_all_have_the_same_taps(kernel, strides, dilation, dense):
    layout = Layout(make(5, 3, 1, kernel, strides, dilation), 8, "fold-dhw")
    assert layout.dense is dense


def test_axes_that_are_not_folded_may_have_taps_that_differ():
    workload = Workload.make((1, 2, 3, 5, 1), (3, 2, 2, 1, 1), (1, 4, 6, 10, 1), 2)
    assert llvm.formulations(workload, V3) == ["phases", "fold-hw", "fold-w"]


@pytest.mark.parametrize(("name", "lanes"), [("x86-64-v2", 4), ("x86-64-v3", 8), ("x86-64-v4", 16)])
@pytest.mark.parametrize(
    ("formulation", "kind"), [("phases", Layout), ("fold-w", Layout), ("dot", DotLayout)]
)
def test_lanes_are_the_elements_of_a_vector(name, lanes, formulation, kind):
    layout = llvm.layout_of(make(5, 16, 1), catalogue.get(name), formulation)
    assert isinstance(layout, kind)
    assert (layout.lanes, layout.formulation) == (lanes, formulation)


def test_families_are_those_of_the_formulations_nest():
    plain = llvm.layout_of(FEW_OUTPUTS, V3, "phases")
    dot = llvm.layout_of(FEW_OUTPUTS, V3, "dot")
    assert list(llvm.families(plain, V3)) == list(channel_nest.families(plain, V3))
    assert list(llvm.families(dot, V3)) == list(dot_nest.families(dot, V3))
    assert Family("columns", 1) in llvm.families(dot, V3)


def test_points_come_once_each():
    for workload in (FEW_OF_BOTH, FOLDED, FEW_OUTPUTS, CHANNELS):
        found = list(llvm.points(workload, V3))
        assert len(found) == len(set(found))


@pytest.mark.parametrize("workload", [FEW_OUTPUTS, CHANNELS], ids=lambda w: w.id)
@pytest.mark.parametrize("name", BUILT_FOR)
def test_code_compiles_for_other_machines(name, workload, built):
    device = replace(catalogue.get(name), cores=2)
    for point in default_points(workload, device):
        assert built(workload, device, point).module is not None
