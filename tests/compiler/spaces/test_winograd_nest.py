"""Is Winograd's filtering exact, whatever the taps, sizes and tasks, as exact as sums over taps, and within its bounds?"""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import cpu
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.spaces import llvm, streams, winograd_nest
from tvm_conv3dt.compiler.spaces.default_point import default_points
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.spaces.workspace import most_bytes
from tvm_conv3dt.compiler.winograd_layout import WinogradLayout
from tvm_conv3dt.reference import random_data, reference
from tvm_conv3dt.spec import Workload

from ..geometries import COMMON, evenly
from ..geometries import make as of_geometry

CASES = {
    **{
        f"kernel {k}, stride {s}": evenly((16, 16), kernel=k, stride=s, width=5)
        for k, s in ((2, 1), (3, 1), (3, 2), (4, 2), (5, 2), (6, 2), (6, 3))
    },
    **{f"width {w}": evenly((16, 16), width=w) for w in (1, 2, 7)},
    "more taps along the width": Workload.make(
        (1, 2, 3, 6, 16), (3, 3, 5, 16, 16), (1, 2, 3, 6, 16), 1
    ),
    "ends early": evenly((16, 16), kernel=4, tail=1),
    "valid": Workload.make((1, 2, 3, 4, 16), (3, 4, 5, 16, 16), (1, 5, 8, 11, 16), 2, "VALID"),
    "output channels share vectors": evenly((16, 21), width=4),
    "bias and relu": evenly((16, 32), width=4, bias=True, activation="relu"),
    "input channels share vectors": evenly((19, 16), width=4),
    "taps that do not meet": Workload.make(
        (1, 2, 3, 6, 16), (5, 3, 3, 16, 16), (1, 2, 3, 6, 16), 1
    ),
    "batch": Workload.make((3, 2, 2, 2, 16), (3, 3, 3, 16, 16), (3, 2, 2, 2, 16), 1),
    **{name: of_geometry(geometry, 2, 16, 16) for name, geometry in COMMON.items()},
}
TASKS = [(1, 1), (1, 3), (2, 2)]


def fitting(device):
    return {n: w for n, w in CASES.items() if WinogradLayout.choices(w, device.lanes(4))}


def chosen(workload, lanes, rows=1, columns=1):
    (layout, *_) = WinogradLayout.choices(workload, lanes)
    return replace(layout, task_rows=rows, task_columns=columns)


def points(workload, device, rows, columns, order=winograd_nest.POINTS):
    layout = chosen(workload, device.lanes(4), rows, columns)
    families = [f for f in winograd_nest.families(layout, device) if f.order == order]
    return [p for f in families for p in winograd_nest.points(layout, device, f)][-1:]


@pytest.mark.parametrize(("turn", "name"), list(enumerate(CASES)))
def test_tasks_are_exact(turn, name, host, inexact):
    """Of each kind of vectors in turns."""
    workload, device = CASES[name], replace(host, vector_bits=128 << turn % 3)
    if name not in fitting(device):
        pytest.skip("it saves nothing there")
    task = TASKS[turn // 3 % len(TASKS)]
    order = winograd_nest.ORDERS[turn % 2]
    assert inexact(workload, device, points(workload, device, *task, order)) == []


@pytest.mark.parametrize("kernel", [3, 4])
def test_any_results_together_are_exact(kernel, host, inexact):
    """Of axes with 6 positions: 1, 2 and 3."""
    device = replace(host, vector_bits=128)
    workload = Workload.make((1, 6, 6, 6, 4), (*[kernel] * 3, 4, 4), (1, 12, 12, 12, 4), 2)
    layouts = WinogradLayout.choices(workload, 4)
    assert len(layouts) == 3**3 - 1
    orders = [winograd_nest.ORDERS[turn % 2] for turn in range(len(layouts))]
    found = [Point(each.name, order, 1) for each, order in zip(layouts, orders, strict=True)]
    # Kernels of 3 have eight times the code.
    assert inexact(workload, device, found[:: 1 if kernel == 4 else 5]) == []


def test_all_but_common_geometries_fit(host):
    assert set(CASES) - set(COMMON) <= set(fitting(replace(host, vector_bits=512)))


@pytest.mark.parametrize(
    ("kernel", "channels", "order"),
    [
        (4, (19, 8), winograd_nest.POINTS),
        (4, (8, 15), winograd_nest.PHASES),
        (3, (19, 12), winograd_nest.PHASES),
    ],
)
def test_half_of_the_lanes_are_exact(kernel, channels, order, host, inexact):
    """Of eight output channels a vector, of more two that share some."""
    device = replace(host, vector_bits=512)
    workload = evenly(channels, kernel=kernel, width=4)
    assert chosen(workload, 16).lanes == 8
    assert inexact(workload, device, points(workload, device, 1, 2, order)) == []


def test_every_register_tile_is_exact(host, inexact):
    device = replace(host, vector_bits=128, vector_registers=12)
    workload = evenly((8, 24), kernel=4, width=9)
    layout = chosen(workload, 4, columns=5)
    families = list(winograd_nest.families(layout, device))
    assert {family.vectors for family in families} == {1, 2, 3}
    found = [p for f in families for p in winograd_nest.points(layout, device, f)]
    found = [p for p in found if p.order == winograd_nest.POINTS]
    # Four would make two tiles of five groups, as three do.
    assert {p.tile_w for p in found} == {1, 2, 3, 5}
    assert inexact(workload, device, found) == []


def test_large_output_passes_by_the_caches(host, inexact, monkeypatch):
    monkeypatch.setattr(streams, "_STREAMED_BYTES", 0)
    workload = evenly((16, 16), kernel=4, width=4)
    (point,) = points(workload, host, 1, 2)
    assert point.stream == (host.arch == "x86_64")
    assert inexact(workload, host, [point]) == []


@pytest.mark.parametrize("activation", ["elu", "leaky_relu", "sigmoid", "tanh"])
def test_activation_is_of_the_sum(activation, host, call, built):
    workload = evenly((16, 16), width=4, bias=True, activation=activation)
    data = random_data(workload, seed=0)
    (point,) = points(workload, host, 1, 2)
    found = call(built(workload, host, point), *data)
    np.testing.assert_allclose(found, reference(workload, *data), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (4, 2), (5, 2), (6, 2)])
def test_error_is_about_that_of_sums_over_taps(kernel, stride, host, call, built):
    """Of products of both signs; it was 0.5 to 1.2 of theirs in the root of the mean square."""
    workload = evenly((96, 16), kernel=kernel, stride=stride)
    rng = np.random.default_rng(0)
    x, filters = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in (workload.input, workload.filters)
    )
    expected = reference(workload, x, filters)
    winograd = points(workload, host, 1, 4)
    plain = [p for p in default_points(workload, host) if p.formulation == "phases"]
    errors = [
        np.sqrt(np.mean((call(built(workload, host, point), x, filters) - expected) ** 2))
        for point in (*winograd, *plain)
    ]
    assert errors[0] < 1.5 * errors[1]


@pytest.mark.parametrize("order", winograd_nest.ORDERS)
@pytest.mark.parametrize("kernel", [3, 4])
def test_result_does_not_depend_on_the_threads(kernel, order, host, built, of_threads):
    workload = evenly((16, 32), kernel=kernel, width=12)
    data = random_data(workload, seed=0)
    kernels = [built(workload, host, *points(workload, host, 1, 2, order))]
    assert len(set(of_threads(kernels, data))) == 1


@pytest.mark.parametrize("kernel", [3, 4])
def test_workspace_is_what_is_said_and_within_its_bounds(kernel, host, built):
    workload = Workload.make((1, 8, 24, 24, 64), (*[kernel] * 3, 32, 64), (1, 16, 48, 48, 32), 2)
    for turn, layout in enumerate(winograd_nest.tasks(workload, host)[::31]):
        order = winograd_nest.ORDERS[turn % 2]
        *_, family = (f for f in winograd_nest.families(layout, host) if f.order == order)
        *_, point = winograd_nest.points(layout, host, family)
        said = host.cores * winograd_nest.copied(layout, point.vectors)
        assert said <= most_bytes(workload)
        assert winograd_nest.within_bounds(layout, host, point)
        taken = built(workload, host, point).workspace_bytes
        assert 0.8 * taken <= said <= 1.05 * taken


def test_more_cores_may_make_too_many_copies(host):
    workload = evenly((64, 32), width=64)
    layout = chosen(workload, host.lanes(4), columns=32)
    point = Point(layout.name, winograd_nest.POINTS, 1)
    assert winograd_nest.within_bounds(layout, replace(host, cores=1), point)
    assert not winograd_nest.within_bounds(layout, replace(host, cores=64), point)


@pytest.mark.skipif(cpu.architecture() != "x86_64", reason="it is about instructions of x86-64")
def test_code_has_one_register_tile_for_each_phase(built):
    """Written out by LLVM, the loops over points would have many."""
    workload, device = evenly((64, 16), width=12), catalogue.get("x86-64-v4")
    layout = chosen(workload, 16, columns=6)
    assert layout.copies == 8
    kernel = built(workload, device, Point(layout.name, winograd_nest.POINTS, 1, tile_w=6))
    module = getattr(kernel.module, "mod", kernel.module)
    code = "".join(
        each.inspect_source("asm") for each in [module, *module.imports] if each.kind == "llvm"
    )
    # Six in a tile, and those of sums over taps; of dozens of points tiles would be many times as many.
    assert 8 * 6 <= code.count("vfmadd") <= 3 * 8 * 6


@pytest.mark.parametrize(
    ("channels", "more", "offered"),
    [
        ((32, 32), {"width": 32}, True),
        ((32, 32), {"width": 32, "kernel": 2}, False),
        ((33, 32), {"width": 32}, True),
        ((3, 32), {"width": 32}, False),
        ((32, 1), {"width": 32}, False),
    ],
)
def test_offered_where_it_saves_products(channels, more, offered, host):
    found = llvm.formulations(evenly(channels, **more), host)
    assert any(name.startswith("winograd-") for name in found) is offered
