"""Are products with all taps summed exactly whatever the geometry: with the unit's instructions, and with loops?"""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.kernel import new_schedule
from tvm_conv3dt.compiler.spaces import llvm, tap_nest
from tvm_conv3dt.compiler.spaces.point import point_of
from tvm_conv3dt.compiler.tap_layout import AXES, TapLayout
from tvm_conv3dt.reference import random_data, reference
from tvm_conv3dt.spec import ACTIVATIONS, Workload

from ..geometries import COMMON
from ..geometries import make as of_geometry
from ..orders import one_in_turn
from .conftest import repeats

UNIT = catalogue.get("x86-64-v4-amx")


def make(size=(2, 3, 9), channels=(32, 1), kernel=3, stride=2, tail=0, **more):
    """The same kernel and stride on every axis, and an output that ends early on all."""
    in_channels, out_channels = channels
    return Workload.make(
        (more.pop("batch", 1), *size, in_channels),
        (kernel, kernel, kernel, out_channels, in_channels),
        (more.pop("n", 1), *(each * stride - tail for each in size), out_channels),
        stride,
        **{"dtype": "bfloat16", **more},
    )


def points(workload, device, apart, tasks=((1, 1),)):
    found = []
    for planes, rows in tasks:
        layout = TapLayout.of(workload, apart, planes, rows)
        for family in tap_nest.families(layout, device):
            found += tap_nest.points(layout, device, family)
    return found


CASES = {
    **{f"kernel {k}": make(kernel=k) for k in (1, 2, 4, 5, 7)},
    **{f"stride {s}": make(stride=s) for s in (1, 3, 4)},
    **{f"{c} inputs": make(channels=(c, 1)) for c in (1, 16, 33, 96)},
    **{f"{c} outputs": make(channels=(32, c), bias=True) for c in (2, 3, 5)},
    **{f"width {w}": make((1, 2, w)) for w in (1, 15, 16, 17, 35)},
    "output ends early": make(tail=1),
    "batch of two": make(batch=2, n=2),
    "relu": make(bias=True, activation="relu"),
    **{
        name: of_geometry(geometry, 1, 8, 1).recast(dtype="bfloat16")
        for name, geometry in COMMON.items()
    },
}


@pytest.mark.parametrize(("turn", "name"), list(enumerate(CASES)))
def test_every_geometry_is_exact(turn, name, device, inexact):
    """In turns without the instructions; all where this CPU has none."""
    for apart in one_in_turn(AXES, turn) if repeats(device) else AXES:
        assert inexact(CASES[name], device, points(CASES[name], device, apart)) == [], apart


@pytest.mark.parametrize("apart", AXES)
def test_every_task_is_exact(apart, device, inexact):
    workload = make((5, 7, 20))
    tasks = [(1, 2), (2, 1), (3, 4), (5, 7), (8, 8)]
    assert inexact(workload, device, points(workload, device, apart, tasks)) == []


@pytest.mark.parametrize("apart", AXES)
def test_float32_with_products_of_bfloat16_is_exact(apart, device, inexact):
    workload = make(channels=(35, 2), bias=True, dtype="float32", precision="bfloat16")
    assert inexact(workload, device, points(workload, device, apart)) == []


@pytest.mark.parametrize("apart", AXES)
def test_trace_holds_the_point(apart, device):
    workload = make()
    (point,) = points(workload, device, apart, [(2, 3)])
    layout = llvm.layout_of(workload, device, point.formulation)
    sch = new_schedule(layout)
    tap_nest.apply(sch, layout, device, point.family, point.choose)
    assert point_of(sch.trace) == point


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_right(activation, device, call, built):
    workload = make(bias=True, activation=activation)
    data = random_data(workload, seed=0)
    found = call(built(workload, device, *points(workload, device, "dhw")), *data)
    expected = reference(workload, *data)
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("apart", AXES)
def test_infinite_input_stays_where_it_belongs(apart, device, call, built):
    workload = make((2, 3, 4), (33, 1))
    x, filters, _ = random_data(workload, seed=0)
    x[0, 1, 1, 3, 32] = np.inf
    found = call(built(workload, device, *points(workload, device, apart)), x, filters)
    reached = np.zeros(workload.output_shape, bool)
    reached[0, 2:4, 2:5, 6:8] = True  # a kernel of 3, cut off at the ends of depth and width
    assert np.array_equal(~np.isfinite(found.astype(np.float32)), reached)


@pytest.mark.parametrize("apart", AXES)
def test_result_does_not_depend_on_the_threads(apart, device, built, of_threads):
    workload = make((3, 5, 9), (70, 1))
    data = random_data(workload, seed=0)
    kernel = built(workload, device, *points(workload, device, apart))
    assert len(set(of_threads([kernel], data))) == 1


@pytest.mark.parametrize("apart", AXES)
def test_error_is_that_of_rounding_the_result(apart, device, call, built):
    workload = make(channels=(128, 1))
    data = [None if each is None else abs(each) for each in random_data(workload, seed=0)]
    found = call(built(workload, device, *points(workload, device, apart)), *data)
    expected = reference(workload, *data)
    assert np.all(abs(found.astype(np.float64) - expected) <= 2**-8 * abs(expected))


@pytest.mark.parametrize("apart", AXES)
@pytest.mark.parametrize("cores", [2, 8])
def test_what_all_cores_take_stays_within_the_workspace(cores, apart, built):
    workload = make((12, 40, 40), (64, 1))
    device = replace(UNIT, cores=cores)
    layouts = tap_nest.tasks(workload, device, apart)
    largest = max(layouts, key=tap_nest.copied)
    assert cores * tap_nest.copied(largest) <= 1_000_000
    (point,) = points(workload, device, apart, [(largest.planes, largest.task_rows)])
    assert built(workload, device, point).workspace_bytes == cores * tap_nest.copied(largest)


def test_what_a_task_makes_stays_in_the_second_cache():
    workload = make((128, 512, 512), (16, 2))  # whose workspace may be far larger
    layouts = tap_nest.tasks(workload, UNIT, "hw")
    assert UNIT.l2_bytes / 4 < max(map(tap_nest.copied, layouts)) <= UNIT.l2_bytes


def test_a_task_of_one_row_is_always_there():
    workload = make((2, 3, 600), (512, 1))
    device = replace(UNIT, cores=64)
    assert {each.task_rows for each in tap_nest.tasks(workload, device, "hw")} == {1}


def test_only_devices_with_the_unit_are_offered_it():
    workload = make()
    with_unit, without = (
        {"taps" in name for name in llvm.formulations(workload, catalogue.get(each))}
        for each in ("x86-64-v4-amx", "x86-64-v4")
    )
    assert (with_unit, without) == ({True, False}, {False})
