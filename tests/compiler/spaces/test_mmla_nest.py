"""Is the nest for products of blocks exact whatever the geometry? By loops that stand for the instruction, which run anywhere.

With the instruction: tests/aarch64.
"""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")
pytest.importorskip("ml_dtypes")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.kernel import new_schedule
from tvm_conv3dt.compiler.mmla_layout import MmlaLayout
from tvm_conv3dt.compiler.spaces import llvm, mmla_nest
from tvm_conv3dt.compiler.spaces.point import Family, Point, point_of
from tvm_conv3dt.reference import random_data, reference
from tvm_conv3dt.spec import ACTIVATIONS, Workload

from ..geometries import COMMON
from ..geometries import make as of_geometry
from ..orders import of_each_order, one_in_turn

GRAVITON = catalogue.get("neoverse-v1")


@pytest.fixture
def device(host):
    """This machine with as many registers as one that has the instruction."""
    features = tuple(each for each in host.cpu_features if each != "bf16")
    return replace(host, cpu_features=features, vector_registers=32, cores=2)


def make(size=(2, 3, 9), channels=(8, 8), kernel=3, stride=2, tail=0, **more):
    """The same kernel and stride on every axis, and an output that ends early on all."""
    in_channels, out_channels = channels
    batch = more.pop("batch", 1)
    output = [each * stride - tail for each in size]
    return Workload.make(
        (batch, *size, in_channels),
        (kernel, kernel, kernel, out_channels, in_channels),
        (batch, *output, out_channels),
        stride,
        dtype=more.pop("dtype", "bfloat16"),
        **more,
    )


def points(workload, device, folding="phases"):
    """One point of each order, with the largest tile and tasks."""
    return of_each_order(workload, device, MmlaLayout.of(workload, folding).name)


CASES = {
    **{f"kernel {k}": make(kernel=k) for k in (1, 2, 5)},
    **{f"stride {s}": make(stride=s) for s in (1, 4)},
    **{f"{c} inputs": make(channels=(c, 4)) for c in (1, 2, 3, 5, 16)},
    **{f"{c} outputs": make(channels=(4, c)) for c in (1, 2, 3, 5, 7, 21)},
    **{f"width {w}": make((1, 2, w)) for w in (1, 2, 3, 4, 35)},
    "many rows": make((1, 7, 2), kernel=2),
    "output ends early": make(tail=1, channels=(6, 9)),
    "no zeros around": make(kernel=2, padding="VALID"),
    "batch of two": make(batch=2),
    "bias": make(bias=True),
    "relu": make(bias=True, activation="relu", channels=(4, 11)),
    **{
        name: of_geometry(geometry, 1, 6, 7).recast(dtype="bfloat16")
        for name, geometry in COMMON.items()
    },
}


@pytest.mark.parametrize(("turn", "name"), list(enumerate(CASES)))
def test_orders_are_exact(turn, name, device, inexact):
    """One of them, which turns from case to case."""
    workload = CASES[name]
    assert inexact(workload, device, one_in_turn(points(workload, device), turn)) == []


@pytest.mark.parametrize("folding", ["fold-w", "fold-hw", "fold-dhw"])
@pytest.mark.parametrize("out_channels", [1, 3])
def test_folded_phases_are_exact(folding, out_channels, device, inexact):
    workload = make(kernel=2, channels=(5, out_channels))
    assert inexact(workload, device, points(workload, device, folding)) == []


@pytest.mark.parametrize("vectors", [1, 2, 3, 4])
def test_every_tile_is_exact(vectors, device, inexact):
    workload = make((1, 3, 7), channels=(4, 15), kernel=2)
    layout = MmlaLayout.of(workload)
    points = [
        Point(layout.name, "rows", vectors, rows, pairs)
        for rows in (1, 3)
        for pairs in mmla_nest.tile_w_candidates(layout, device, vectors, rows)
    ]
    assert inexact(workload, device, points) == []


@pytest.mark.parametrize("order", ["rows", "panels"])
def test_every_task_is_exact(order, device, inexact):
    workload = make((2, 8, 5))
    layout = MmlaLayout.of(workload)
    tasks = mmla_nest.task_h_candidates(layout, device, 2)
    assert tasks == [1, 2, 3, 4]
    points = [Point(layout.name, order, 1, 2, 2, task_h=each) for each in tasks]
    assert inexact(workload, device, points) == []


@pytest.mark.parametrize("order", ["rows", "panels", "filters"])
def test_trace_holds_the_point(order, device):
    workload = make((4, 3, 9))
    layout = MmlaLayout.of(workload)
    point = list(mmla_nest.points(layout, device, Family(order, 2)))[-1]
    sch = new_schedule(layout)
    mmla_nest.apply(sch, layout, device, point.family, point.choose)
    assert point_of(sch.trace) == point


@pytest.mark.parametrize("channels", [(8, 4), (5, 7)])
def test_float32_with_products_of_bfloat16_is_exact(channels, device, inexact):
    workload = make(channels=channels, bias=True, dtype="float32", precision="bfloat16")
    assert inexact(workload, device, points(workload, device)) == []


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_right(activation, device, call, built):
    workload = make(bias=True, activation=activation)
    data = random_data(workload, seed=0)
    found = call(built(workload, device, points(workload, device)[0]), *data)
    expected = reference(workload, *data)
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=2**-8, atol=1e-5)


def test_infinite_input_stays_where_it_belongs(device, call, built):
    workload = make((2, 3, 5), (5, 6), kernel=2)
    x, filters, _ = random_data(workload, seed=0)
    x[0, 1, 1, 2, 4] = np.inf  # in the middle of a row, which both halves have
    found = call(built(workload, device, points(workload, device)[0]), x, filters)
    reached = np.zeros(workload.output_shape, bool)
    reached[0, 2:4, 2:4, 4:6] = True
    assert np.array_equal(~np.isfinite(found.astype(np.float32)), reached)


def test_infinity_is_no_nan_where_taps_differ_by_phase(device, call, built):
    workload = make((2, 3, 5), (5, 6))
    x, filters, _ = random_data(workload, seed=0)
    x[0, 1, 1, 4, 4] = np.inf
    found = call(built(workload, device, points(workload, device)[0]), x, filters)
    expected = reference(workload, x, filters)
    assert np.array_equal(np.isinf(found.astype(np.float32)), np.isinf(expected))
    assert not np.isnan(found.astype(np.float32)).any()


def test_result_does_not_depend_on_the_threads(device, built, of_threads):
    workload = make((3, 5, 9), (7, 9))
    data = random_data(workload, seed=0)
    kernels = [built(workload, device, point) for point in points(workload, device)]
    assert len(set(of_threads(kernels, data))) == 1


def test_small_inputs_are_copied_once_and_large_ones_by_tasks():
    orders = [
        list(
            dict.fromkeys(f.order for f in mmla_nest.families(MmlaLayout.of(make(size)), GRAVITON))
        )
        for size in ((2, 3, 4), (64, 64, 64))
    ]
    assert orders == [["rows", "panels", "filters"], ["rows", "panels"]]


def test_dilated_phases_are_never_fused():
    layout = MmlaLayout.of(make(stride=1, dilations=2))
    assert {f.order for f in mmla_nest.families(layout, GRAVITON)} == {"rows", "panels"}


@pytest.mark.parametrize("cores", [2, 8])
def test_copies_of_all_cores_stay_within_the_workspace(cores, built):
    workload = make((8, 48, 64), (128, 8))
    layout, device = MmlaLayout.of(workload), replace(GRAVITON, cores=cores)
    task = mmla_nest.task_h_candidates(layout, device, 1)[-1]
    assert task > 1
    assert cores * mmla_nest.copied(layout, task) <= 1_000_000
    kernel = built(workload, device, Point(layout.name, "rows", 2, tile_w=6, task_h=task))
    assert kernel.workspace_bytes == cores * mmla_nest.copied(layout, task)


def test_sums_and_operands_fit_the_registers():
    layout = MmlaLayout.of(make((2, 4, 64), (64, 64)))
    for family in mmla_nest.families(layout, GRAVITON):
        for point in mmla_nest.points(layout, GRAVITON, family):
            filters = 2 * point.vectors
            sums = filters * point.tile_h * point.tile_w
            assert sums + filters + 1 < GRAVITON.vector_registers


@pytest.mark.parametrize(
    ("name", "workload", "expected"),
    [
        ("neoverse-v1", make(), {"mmla-phases"}),
        ("neoverse-v2", make(), {"mmla-phases"}),
        (
            "neoverse-v1",
            make(channels=(8, 3), kernel=2),
            {"mmla-phases", "mmla-fold-w", "mmla-fold-hw", "mmla-fold-dhw"},
        ),
        ("neoverse-v1", make(dtype="float32"), set()),
        ("neoverse-v1", make(dtype="float32", precision="bfloat16"), {"mmla-phases"}),
        ("neoverse-v1", make().recast(data_format="NCDHW"), set()),
        ("neoverse-n1", make(), set()),
        ("x86-64-v4-bf16", make(), set()),
        ("x86-64-v4-amx", make(), set()),
    ],
)
def test_only_devices_with_the_instruction_are_offered_it(name, workload, expected):
    found = llvm.formulations(workload, catalogue.get(name))
    assert {each for each in found if each.startswith("mmla-")} == expected
