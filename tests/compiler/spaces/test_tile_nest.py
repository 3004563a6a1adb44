"""Is the nest for matrix units exact whatever the geometry: with their instructions, and with loops that stand for them?"""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.kernel import new_schedule
from tvm_conv3dt.compiler.spaces import llvm, tile_nest
from tvm_conv3dt.compiler.spaces.point import Family, Point, point_of
from tvm_conv3dt.compiler.tile_layout import TileLayout
from tvm_conv3dt.reference import random_data, reference
from tvm_conv3dt.spec import ACTIVATIONS, DATA_FORMATS, Workload

from ..geometries import COMMON
from ..geometries import make as of_geometry
from ..orders import of_each_order, one_in_turn

UNIT = catalogue.get("x86-64-v4-amx")


def make(size=(2, 3, 9), channels=(32, 16), kernel=3, stride=2, tail=0, **more):
    """The same kernel and stride on every axis, and an output that ends early on all."""
    in_channels, out_channels = channels
    output = [each * stride - tail for each in size]
    return Workload.make(
        (more.pop("batch", 1), *size, in_channels),
        (kernel, kernel, kernel, out_channels, in_channels),
        (more.pop("n", 1), *output, out_channels),
        stride,
        **more,
        dtype="bfloat16",
    )


def families(workload, device, squares, folding="phases"):
    """One point of each order, with the largest tasks."""
    name = TileLayout.of(workload, squares, folding).name
    return of_each_order(workload, device, name)


CASES = {
    **{f"kernel {k}": ((1, 1), make(kernel=k)) for k in (1, 2, 5)},
    **{f"stride {s}": ((1, 1), make(stride=s)) for s in (1, 4)},
    **{f"{c} inputs": ((1, 1), make(channels=(c, 16))) for c in (1, 33, 60)},
    **{f"{c} outputs": ((1, 2), make(channels=(32, c))) for c in (1, 8, 17, 60)},
    **{f"width {w}": ((2, 1), make((1, 2, w))) for w in (1, 35)},
    "rows of whole squares": ((2, 1), make((1, 3, 46), (32, 8))),
    "output ends early": ((2, 2), make(tail=1, channels=(32, 40))),
    "many tiles": ((1, 1), make((1, 12, 20), kernel=2)),
    "batch of two": ((2, 1), make(batch=2, n=2)),
    "bias": ((1, 1), make(bias=True)),
    "relu": ((1, 3), make(bias=True, activation="relu", channels=(32, 48))),
    **{
        f"tile of {rows}x{columns}": ((rows, columns), make((1, 4, 17), (32, 16 * columns)))
        for rows, columns in tile_nest.TILES
    },
    **{
        name: ((1, 1), of_geometry(geometry, 1, 8, 16).recast(dtype="bfloat16"))
        for name, geometry in COMMON.items()
    },
}


CHANNELS_FIRST = {
    "base": ((1, 1), make()),
    "kernel 2": ((1, 1), make(kernel=2)),
    "stride 4": ((1, 1), make(stride=4)),
    "one input": ((1, 1), make(channels=(1, 16))),
    "one output": ((1, 1), make(channels=(32, 1))),
    "odd channels": ((1, 2), make(channels=(33, 17), bias=True, activation="relu")),
    "two tiles in a row": ((1, 1), make((1, 3, 20))),
    "one position in a row": ((2, 1), make((2, 3, 1))),
    "output ends early": ((2, 2), make(tail=1, channels=(32, 40))),
    "batch of two": ((2, 1), make(batch=2, n=2)),
    "float32": ((1, 1), make().recast(dtype="float32", precision="bfloat16")),
}


@pytest.mark.parametrize("name", CHANNELS_FIRST)
def test_every_order_is_exact_with_channels_first(name, device, inexact):
    squares, workload = CHANNELS_FIRST[name]
    workload = workload.recast(data_format="NCDHW")
    assert inexact(workload, device, families(workload, device, squares)) == []


@pytest.mark.parametrize(("turn", "name"), list(enumerate(CASES)))
def test_orders_are_exact(turn, name, device, inexact):
    """Of a matrix unit's numbers as they are; those that are split, in the same nest, have every order in every case."""
    squares, workload = CASES[name]
    points = one_in_turn(families(workload, device, squares), turn)
    assert inexact(workload, device, points) == []


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("folding", ["fold-w", "fold-hw", "fold-dhw"])
def test_folded_phases_are_exact(folding, data_format, device, inexact):
    workload = make(kernel=2, channels=(32, 24)).recast(data_format=data_format)
    assert inexact(workload, device, families(workload, device, (1, 2), folding)) == []


def test_every_task_is_exact(device, inexact):
    workload = make((1, 8, 15), kernel=2)
    layout = TileLayout.of(workload, (1, 1))
    tasks = tile_nest.task_candidates(layout, device, "rows")
    assert tasks == [1, 2, 4, 8]
    points = [Point(layout.name, order, 1, task_h=t) for order in ("rows", "panels") for t in tasks]
    assert inexact(workload, device, points) == []


def test_every_task_of_rows_is_exact(device, inexact):
    workload = make((2, 4, 20)).recast(data_format="NCDHW")
    layout = TileLayout.of(workload, (1, 1))
    found = [
        p for f in tile_nest.families(layout, device) for p in tile_nest.points(layout, device, f)
    ]
    assert {(each.task_h, each.task_d) for each in found} == set(product((1, 2, 4), (1, 2)))
    assert {each.order for each in found} == {"rows", "panels"}
    assert inexact(workload, device, found) == []


@pytest.mark.parametrize("order", ["rows", "panels"])
def test_tasks_of_several_planes_are_exact(order, device, inexact):
    workload = make((4, 3, 9))
    layout = TileLayout.of(workload, (1, 1))
    planes = tile_nest.plane_candidates(layout, device, order)
    assert planes == [1, 2, 4]
    tiles = layout.tiles
    points = [Point(layout.name, order, 1, task_h=tiles, task_d=each) for each in planes]
    assert inexact(workload, device, points) == []


def test_only_planes_that_share_rows_are_taken_together():
    layouts = [TileLayout.of(make((4, 3, 9), kernel=kernel), (1, 1)) for kernel in (2, 3)]
    assert [tile_nest.plane_candidates(each, UNIT, "rows") for each in layouts] == [[1], [1, 2, 4]]


@pytest.mark.parametrize("order", tile_nest.ORDERS)
def test_trace_holds_the_point(order, device):
    workload = make((4, 3, 9))
    layout = TileLayout.of(workload, (1, 1))
    family = Family(order, 1)
    point = list(tile_nest.points(layout, device, family))[-1]
    sch = new_schedule(layout)
    tile_nest.apply(sch, layout, device, family, point.choose)
    assert point_of(sch.trace) == point


@pytest.mark.parametrize("channels", [(32, 16), (35, 33)])
def test_float32_with_products_of_bfloat16_is_exact(channels, device, inexact):
    workload = make(channels=channels, bias=True).recast(dtype="float32", precision="bfloat16")
    assert inexact(workload, device, families(workload, device, (1, 1))) == []


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_right(activation, device, call, built):
    workload = make(bias=True, activation=activation)
    data = random_data(workload, seed=0)
    found = call(built(workload, device, families(workload, device, (1, 1))[0]), *data)
    expected = reference(workload, *data)
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=2**-8, atol=1e-5)


def test_exponentials_of_single_numbers_are_right(device, call, built):
    # 33 of 48 channels leave no vector whole.
    workload = make(channels=(32, 33), kernel=2, bias=True, activation="tanh")
    data = random_data(workload, seed=0)
    found = call(built(workload, device, families(workload, device, (1, 3))[0]), *data)
    expected = reference(workload, *data)
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
def test_infinite_input_stays_where_it_belongs(data_format, device, call, built):
    workload = make((2, 3, 4), (33, 20), kernel=2).recast(data_format=data_format)
    x, filters, _ = random_data(workload, seed=0)
    last = data_format == "NDHWC"
    x[(0, 1, 1, 3, 32) if last else (0, 32, 1, 1, 3)] = np.inf
    found = call(built(workload, device, families(workload, device, (2, 2))[0]), x, filters)
    reached = np.zeros(workload.output_shape, bool)
    (reached if last else np.moveaxis(reached, 1, -1))[0, 2:4, 2:4, 6:8] = True
    assert np.array_equal(~np.isfinite(found.astype(np.float32)), reached)


def test_result_does_not_depend_on_the_threads(device, built, of_threads):
    workload = make((3, 5, 9), (70, 33))
    data = random_data(workload, seed=0)
    kernels = [
        built(workload, device, Point("amx-2x2-phases", order, 2, 2))
        for order in ("rows", "panels")
    ]
    assert len(set(of_threads(kernels, data))) == 1


def test_error_is_that_of_rounding_the_result(device, call, built):
    workload = make((2, 3, 9), (128, 32))
    data = [None if each is None else abs(each) for each in random_data(workload, seed=0)]
    point = families(workload, device, (2, 2))[0]
    found = call(built(workload, device, point), *data).astype(np.float64)
    expected = reference(workload, *data)
    assert np.all(abs(found - expected) <= 2**-8 * abs(expected))


def test_small_inputs_are_copied_once_and_large_ones_by_tasks():
    orders = [
        [f.order for f in tile_nest.families(TileLayout.of(make(size), (1, 1)), UNIT)]
        for size in ((2, 3, 4), (64, 64, 64))
    ]
    assert orders == [["rows", "panels", "filters"], ["rows", "panels"]]


def test_dilated_phases_are_never_fused():
    layout = TileLayout.of(make(stride=1, dilations=2), (1, 1))
    assert [f.order for f in tile_nest.families(layout, UNIT)] == ["rows", "panels"]


@pytest.mark.parametrize("data_format", DATA_FORMATS)
def test_copies_of_all_cores_stay_within_the_workspace(data_format, built):
    workload = make((8, 48, 24), (128, 32)).recast(data_format=data_format)
    layout = TileLayout.of(workload, (1, 1))
    for cores in (2, 8):
        device = replace(UNIT, cores=cores)
        task = tile_nest.task_candidates(layout, device, "rows")[-1]
        assert cores * tile_nest.copied(layout, "rows", task) <= 1_000_000
        point = Point(layout.name, "rows", 1, task_h=task)
        assert built(workload, device, point).workspace_bytes <= 1_000_000 + 4096 * cores


def test_points_are_the_tasks_of_a_family():
    layout = TileLayout.of(make((2, 4, 16), kernel=2), (1, 1))
    found = list(tile_nest.points(layout, UNIT, Family("panels", 1)))
    assert found == [Point("amx-1x1-phases", "panels", 1, task_h=t) for t in (1, 2, 4)]


def test_only_devices_with_the_unit_are_offered_it():
    workload = make()
    with_unit, without = (
        {name.startswith("amx-") for name in llvm.formulations(workload, catalogue.get(each))}
        for each in ("x86-64-v4-amx", "x86-64-v4")
    )
    assert (with_unit, without) == ({True, False}, {False})
