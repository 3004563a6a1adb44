"""Is every tile of the nest over output channels right, within the registers, and its tasks within bounds?"""

from dataclasses import replace

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.spaces import channel_nest, llvm
from tvm_conv3dt.compiler.spaces.point import Family, Point
from tvm_conv3dt.reference import random_data, reference
from tvm_conv3dt.spec import ACTIVATIONS, Workload

CPUS = [name for name in catalogue.names()[1:] if catalogue.get(name).kind == "llvm"]
V3, V4 = catalogue.get("x86-64-v3"), catalogue.get("x86-64-v4")


def make(width, in_channels, out_channels, kernel=3, output_tail=0, dilation=1, height=3, **more):
    """Stride 2; a width whose tiles of 2 and 3 leave tails, 3 rows, an output that may end early."""
    return Workload.make(
        (1, 2, height, width, in_channels),
        (kernel, kernel, kernel, out_channels, in_channels),
        (1, 4, 2 * height, 2 * width - output_tail, out_channels),
        2,
        dilations=dilation,
        **more,
    )


SHAPES = {
    "one channel": make(5, 1, 1),
    "less than a vector": make(7, 4, 3, output_tail=1),
    "a vector and one": make(5, 3, 17),
    "three vectors of 8": make(7, 2, 24, kernel=2),
    "33 channels, odd output": make(5, 3, 33, output_tail=1),
    "dilation": make(5, 3, 17, dilation=3),
    "folded": make(5, 3, 7, kernel=2, padding="VALID"),
}


def plain(workload, device, formulation="phases"):
    return llvm.layout_of(workload, device, formulation)


def some_points(workload, device, rows=(1,)):
    """One point of each order and number of vectors, with most rows and with some others; with tails where there can be."""
    for formulation in llvm.formulations(workload, device):
        layout = llvm.layout_of(workload, device, formulation)
        if type(layout) is not Layout:  # it has a nest of its own
            continue
        found = list(channel_nest.families(layout, device))
        most = {family[:2]: family for family in found}
        for order, vectors, tile_h in found:
            if tile_h not in (*rows, most[order, vectors].tile_h):
                continue
            tiles_w = channel_nest.tile_w_candidates(layout, device, vectors, tile_h)
            tasks = channel_nest.task_h_candidates(layout, device, tile_h)
            task_h = 1 if order == "filters" else tasks[len(tasks) // 2]
            tile_w = min(tiles_w[-1], 3)
            yield Point(formulation, order, vectors, tile_h, tile_w, task_h=task_h)


@pytest.mark.parametrize("name", SHAPES)
def test_families_are_exact(name, host, inexact):
    assert inexact(SHAPES[name], host, some_points(SHAPES[name], host)) == []


KINDS = [("NCDHW", "float32"), ("NDHWC", "float64"), ("NDHWC", "float16"), ("NCDHW", "bfloat16")]


@pytest.mark.parametrize(("turn", "kind"), list(enumerate(KINDS)))
@pytest.mark.parametrize(
    "name", ["one channel", "less than a vector", "33 channels, odd output", "folded"]
)
def test_families_are_exact_in_other_formats_and_types(name, turn, kind, host, inexact):
    workload = SHAPES[name].recast(*kind)
    points = list(some_points(workload, host, rows=()))
    assert inexact(workload, host, points[turn % len(points) :: len(KINDS)]) == []


@pytest.mark.parametrize(("out_channels", "vectors"), [(60, 2), (60, 5), (300, 3), (515, 5)])
@pytest.mark.parametrize("order", channel_nest.ORDERS)
def test_tiles_of_channels_that_overlap_are_exact(out_channels, vectors, order, host, inexact):
    workload = make(3, 2, out_channels, kernel=2, bias=True, activation="relu")
    device = replace(host, vector_bits=256)
    assert inexact(workload, device, [Point("phases", order, vectors, tile_w=2)]) == []


def test_every_tile_width_is_exact(host, inexact):
    workload = SHAPES["a vector and one"]
    widths = channel_nest.tile_w_candidates(plain(workload, host), host, 2, 1)
    points = [Point("phases", "panels", 2, tile_w=tile_w) for tile_w in widths]
    assert inexact(workload, host, points) == []


@pytest.mark.parametrize(("kernel", "height"), [(1, 5), (2, 5), (3, 3), (3, 5), (3, 7), (5, 5)])
def test_every_tile_of_rows_is_exact_in_every_task(height, kernel, host, inexact):
    """Tiles that overlap with those of the task before as well."""
    workload = make(2, 2, 9, kernel=kernel, height=height)
    layout = plain(workload, host)
    points = [
        Point("phases", "rows", 1, tile_h, 2, task_h=task_h)
        for tile_h in range(2, height + 1)
        for task_h in channel_nest.task_h_candidates(layout, host, tile_h)
    ]
    assert inexact(workload, host, points) == []


@pytest.mark.parametrize("order", channel_nest.ORDERS)
@pytest.mark.parametrize("bits", [128, 256, 512])
def test_tiles_that_overlap_on_every_axis_are_exact(bits, order, host, inexact):
    workload = make(
        5, 3, 33, output_tail=1, height=5, bias=True, activation="leaky_relu", alpha=0.5
    )
    device = replace(host, vector_bits=bits)
    point = Point("phases", order, 2, tile_h=2, tile_w=3, task_h=1 if order == "filters" else 3)
    assert inexact(workload, device, [point]) == []


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("order", ["rows", "filters"])
def test_tiles_that_overlap_are_right_with_every_activation(activation, order, host, call, built):
    workload = make(5, 3, 33, output_tail=1, bias=True, activation=activation)
    data = random_data(workload, seed=0)
    point = Point("phases", order, 2, tile_h=2, tile_w=3, task_h=1 if order == "filters" else 2)
    found = call(built(workload, replace(host, vector_bits=256), point), *data)
    np.testing.assert_allclose(found, reference(workload, *data), rtol=1e-5, atol=1e-5)


def test_number_of_instructions_depends_on_no_decision(small):
    lengths = set()
    for point in llvm.points(small, V3):
        if point.order == "rows" and point.formulation == "phases":
            layout = plain(small, V3)
            sch = kernel.new_schedule(layout)
            llvm.apply(sch, layout, V3, point.family, point.choose)
            lengths.add(len(sch.trace.insts))
    assert len(lengths) == 1


@pytest.mark.parametrize("name", CPUS)
def test_tiles_fit_the_registers(name):
    device = catalogue.get(name)
    workload = make(64, 16, 256)
    for vectors in (1, 2, 3, 4, 5):
        for rows in (1, 2):
            tiles = channel_nest.tile_w_candidates(plain(workload, device), device, vectors, rows)
            assert tiles[0] == 1
            # Accumulators, one vector of filters each, and the input.
            if (rows + 1) * vectors + 1 <= device.vector_registers:
                needed = rows * tiles[-1] * vectors + vectors + 1
                assert needed <= device.vector_registers


def test_rows_are_put_together_where_one_does_not_fill_the_registers():
    def most(width):
        layout = plain(make(width, 16, 16, height=16), V3)
        found = [f.tile_h for f in channel_nest.families(layout, V3) if f[:2] == ("rows", 1)]
        return max(found)

    # 14 positions of one vector each fit beside their operands.
    assert [most(width) for width in (2, 3, 7, 8, 64)] == [7, 4, 2, 1, 1]


def test_tiles_are_no_wider_than_a_row():
    layout = plain(make(5, 16, 16), V4)
    assert channel_nest.tile_w_candidates(layout, V4, 1, 1) == [1, 2, 3, 4, 5]


def test_tasks_take_no_more_rows_than_there_are():
    layout = plain(make(5, 16, 16), V4)
    assert channel_nest.task_h_candidates(layout, V4, 1) == [1, 2, 3]


@pytest.mark.parametrize(
    ("kernel", "height", "rows", "tasks"),
    [
        (3, 8, 2, [1, 2, 3, 4]),  # of whole tiles
        (3, 7, 2, [2, 4]),  # the last tile would be one row, and after 1 or 3 the first of its task
        (3, 5, 2, [3]),
        (3, 7, 3, [3]),
        (2, 7, 2, [1, 2, 3, 4]),  # nothing is padded, so nothing is copied
    ],
)
def test_no_task_begins_with_a_tile_that_starts_early(kernel, height, rows, tasks):
    layout = plain(make(2, 4, 16, kernel=kernel, height=height), V4)
    assert channel_nest.task_h_candidates(layout, V4, rows) == tasks


def test_every_family_has_points():
    for workload in SHAPES.values():
        for formulation in ("phases", "fold-w"):
            layout = plain(workload, V3, formulation)
            for family in channel_nest.families(layout, V3):
                assert list(channel_nest.points(layout, V3, family))


def test_tasks_take_no_more_rows_than_the_workspace_allows(built):
    device = replace(V3, cores=4)
    workload = Workload.make(
        (1, 16, 128, 128, 96), (3, 3, 3, 1, 96), (1, 16, 256, 256, 1), (1, 2, 2)
    )
    layout = plain(workload, device)
    tasks = channel_nest.task_h_candidates(layout, device, 1)
    for task_h in tasks:
        kernel = built(workload, device, Point("phases", "rows", 1, tile_w=8, task_h=task_h))
        assert kernel.workspace_bytes <= 1 << 20 or task_h == 1


@pytest.mark.parametrize("order", channel_nest.ORDERS)
def test_turned_rows_stay_within_the_workspace(order, built):
    device = replace(V3, cores=4)
    workload = Workload.make(
        (1, 64, 8, 16, 16), (3, 3, 3, 64, 64), (1, 64, 16, 32, 32), 2, data_format="NCDHW"
    )
    layout = plain(workload, device)
    points = [
        point
        for family in channel_nest.families(layout, device)
        if family == Family(order, 1)
        for point in channel_nest.points(layout, device, family)
        if point.tile_w == 8
    ]
    assert (points == []) is (order == "filters")  # whose rows are the whole output
    for point in points:
        assert built(workload, device, point).workspace_bytes <= 1 << 20


@pytest.mark.parametrize(
    ("out_channels", "vectors"),
    [
        (1, {1}),
        (8, {1}),
        (9, {1, 2}),
        (24, {1, 2, 3}),
        (33, {1, 2, 3, 4, 5}),
        (300, {1, 2, 3, 4, 5}),
    ],
)
def test_families_have_no_more_vectors_than_channels_fill(out_channels, vectors):
    found = channel_nest.families(plain(make(5, 3, out_channels), V3), V3)
    assert {family.vectors for family in found} == vectors


def test_dilation_has_no_family_that_fuses_phases():
    found = channel_nest.families(plain(SHAPES["dilation"], V3), V3)
    assert {family.order for family in found} == {"rows", "panels"}


@pytest.mark.parametrize(
    ("formulation", "out_channels", "together"),
    [
        ("phases", 1, True),
        ("phases", 9, True),
        ("fold-w", 3, True),
        ("fold-w", 9, True),
        ("fold-hw", 3, False),
        ("fold-w", 4, True),
        ("fold-hw", 4, True),
        ("fold-h", 4, False),
    ],
)
def test_lanes_are_stored_together_where_they_stand_together(formulation, out_channels, together):
    layout = plain(make(5, 3, out_channels, kernel=2), V3, formulation)
    assert channel_nest.stores_vectors(layout) is together


def test_family_is_a_tuple_of_what_is_structural():
    assert Family("rows", 2, 3) in set(channel_nest.families(plain(make(2, 3, 16), V3), V3))


@pytest.mark.parametrize(("batch", "fuses"), [(1, True), (64, False)])
def test_copies_of_all_volumes_stay_within_the_workspace(batch, fuses):
    sizes = (batch, 4, 4, 4, 512), (3, 3, 3, 64, 512), (batch, 8, 8, 8, 64)
    families = channel_nest.families(plain(Workload.make(*sizes, 2), V3), V3)
    assert ("filters" in {family.order for family in families}) is fuses
