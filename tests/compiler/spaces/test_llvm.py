"""Is every point of the space right, within the registers, and the same after a trace?"""

from dataclasses import replace

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.spaces import llvm
from tvm_conv3dt.compiler.spaces.default_point import points
from tvm_conv3dt.compiler.spaces.llvm import Point
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import Workload

CPUS = [name for name in catalogue.names()[1:] if catalogue.get(name).kind == "llvm"]
BUILT_FOR = ["x86-64-v2", "x86-64-v4", "aarch64"]


def make(width, in_channels, out_channels, kernel=3, output_tail=0, dilation=1):
    """Stride 2; a width whose tiles of 2 and 3 leave tails, 3 rows, an output that may end early."""
    return Workload.make(
        (1, 2, 3, width, in_channels),
        (kernel, kernel, kernel, out_channels, in_channels),
        (1, 4, 6, 2 * width - output_tail, out_channels),
        2,
        dilations=dilation,
    )


SHAPES = {
    "one channel": make(5, 1, 1),
    "less than a vector": make(7, 4, 3, output_tail=1),
    "a vector and one": make(5, 3, 17),
    "three vectors of 8": make(7, 2, 24, kernel=2),
    "33 channels, odd output": make(5, 3, 33, output_tail=1),
    "dilation": make(5, 3, 17, dilation=3),
}


def scheduled(workload, device, point):
    layout = llvm.layout_of(workload, device, point.formulation)
    sch = kernel.new_schedule(layout)
    llvm.apply(sch, layout, device, point.order, point.vectors, point.choose)
    return sch


def compiled(workload, device, point):
    layout = llvm.layout_of(workload, device, point.formulation)
    return kernel.compile_kernel(layout, device, scheduled(workload, device, point))


def plain(workload, device):
    return llvm.layout_of(workload, device, "phases")


def some_points(workload, device):
    """One point of each family, with tails where there can be."""
    for formulation in llvm.formulations(workload, device):
        layout = llvm.layout_of(workload, device, formulation)
        for order, vectors in llvm.families(layout):
            tiles_w = llvm.tile_w_candidates(layout, device, vectors)
            rows = 1 if order == "filters" else llvm.tile_h_candidates(layout, device)[-1] - 1
            yield Point(formulation, order, vectors, min(tiles_w[-1], 3), max(rows, 1))


@pytest.mark.parametrize("name", SHAPES)
def test_every_family_is_exact(name, host, call):
    workload = SHAPES[name]
    x, filters, _ = integer_data(workload, seed=0)
    expected = reference(workload, x, filters)
    wrong = []
    for point in some_points(workload, host):
        built = compiled(workload, host, point)
        if not np.array_equal(call(built, x, filters), expected):
            wrong.append(point)
    assert wrong == []


def test_every_tile_width_is_exact(host, call):
    workload = SHAPES["a vector and one"]
    x, filters, _ = integer_data(workload, seed=1)
    expected = reference(workload, x, filters)
    wrong = []
    for tile_w in llvm.tile_w_candidates(plain(workload, host), host, 2):
        built = compiled(workload, host, Point("phases", "panels", 2, tile_w, 1))
        if not np.array_equal(call(built, x, filters), expected):
            wrong.append(tile_w)
    assert wrong == []


@pytest.mark.parametrize("name", ["one channel", "a vector and one"])
def test_trace_tells_its_point(name, host):
    workload = SHAPES[name]
    chosen = list(points(workload, host))
    assert [llvm.point_of(scheduled(workload, host, point).trace) for point in chosen] == chosen


def test_sampled_decisions_are_a_point_of_the_space(host, small):
    layout = plain(small, host)
    sch = kernel.new_schedule(layout)
    llvm.apply(sch, layout, host, "rows", 1, lambda name, candidates: None)
    assert llvm.point_of(sch.trace) in list(points(small, host))


def test_number_of_instructions_depends_on_no_decision(host, small):
    lengths = {
        len(scheduled(small, host, point).trace.insts)
        for point in points(small, host)
        if point.order == "rows"
    }
    assert len(lengths) == 1


@pytest.mark.parametrize("name", CPUS)
def test_tiles_fit_the_registers(name):
    device = catalogue.get(name)
    workload = make(64, 16, 256)
    for vectors in (1, 2, 3, 4):
        tiles = llvm.tile_w_candidates(plain(workload, device), device, vectors)
        assert tiles[0] == 1
        # Accumulators, one vector of filters each, and the input.
        assert tiles[-1] * vectors + vectors + 1 <= device.vector_registers


def test_tiles_are_no_wider_than_a_row():
    device = catalogue.get("x86-64-v4")
    assert llvm.tile_w_candidates(plain(make(5, 16, 16), device), device, 1) == [1, 2, 3, 4, 5]


def test_tasks_take_no_more_rows_than_there_are():
    device = catalogue.get("x86-64-v4")
    assert llvm.tile_h_candidates(plain(make(5, 16, 16), device), device) == [1, 2, 3]


def test_tasks_take_no_more_rows_than_the_workspace_allows():
    device = replace(catalogue.get("x86-64-v3"), cores=4)
    workload = Workload.make(
        (1, 16, 128, 128, 96), (3, 3, 3, 1, 96), (1, 16, 256, 256, 1), (1, 2, 2)
    )
    layout = llvm.layout_of(workload, device, "fold-hw")
    for tile_h in llvm.tile_h_candidates(layout, device):
        point = Point("fold-hw", "rows", 1, 8, tile_h)
        built = compiled(workload, device, point)
        assert built.workspace_bytes <= 1 << 20 or tile_h == 1


@pytest.mark.parametrize(
    ("out_channels", "found"),
    [(1, ["phases", "fold-dhw", "fold-hw", "fold-w"]), (8, ["phases"]), (24, ["phases"])],
)
def test_phases_are_folded_where_channels_do_not_fill_a_vector(out_channels, found):
    device = catalogue.get("x86-64-v3")
    assert llvm.formulations(make(5, 3, out_channels), device) == found


@pytest.mark.parametrize(
    ("out_channels", "vectors"),
    [(1, {1}), (8, {1}), (9, {1, 2}), (24, {1, 2, 3}), (33, {1, 2, 3, 4})],
)
def test_families_have_no_more_vectors_than_channels_fill(out_channels, vectors):
    device = catalogue.get("x86-64-v3")
    found = {
        v for order, v in llvm.families(plain(make(5, 3, out_channels), device)) if order == "rows"
    }
    assert found == vectors


def test_families_that_fuse_channels_have_no_tail_of_them():
    device = catalogue.get("x86-64-v3")
    found = {v for order, v in llvm.families(plain(make(5, 3, 24), device)) if order == "filters"}
    assert found == {1, 3}


def test_dilation_has_no_family_that_fuses_phases():
    orders = {
        order for order, _ in llvm.families(plain(SHAPES["dilation"], catalogue.get("x86-64-v3")))
    }
    assert orders == {"rows", "panels"}


@pytest.mark.parametrize(("name", "lanes"), [("x86-64-v2", 4), ("x86-64-v3", 8), ("x86-64-v4", 16)])
def test_lanes_are_the_elements_of_a_vector(name, lanes):
    assert plain(make(5, 3, 3), catalogue.get(name)).lanes == lanes


@pytest.mark.parametrize("name", BUILT_FOR)
def test_code_compiles_for_other_machines(name):
    device = replace(catalogue.get(name), cores=2)
    workload = make(5, 3, 33, output_tail=1)
    for order in llvm.ORDERS:
        point = Point("phases", order, 1, 3)
        assert compiled(workload, device, point).module is not None
