"""Is the nest over input channels exact whatever the geometry, in every order?"""

from dataclasses import replace

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.dot_layout import DOT, DotLayout
from tvm_conv3dt.compiler.spaces import dot_nest, llvm
from tvm_conv3dt.compiler.spaces.point import Family, Point
from tvm_conv3dt.reference import random_data, reference
from tvm_conv3dt.spec import ACTIVATIONS, Workload

V3 = catalogue.get("x86-64-v3")


def make(width=9, kernel=3, stride=2, channels=(16, 1), tail=0, size=(2, 3), **more):
    """The same kernel, stride and dilation on every axis, and an output that ends early on all."""
    in_channels, out_channels = channels
    sizes = (*size, width)
    output = [max(1, each * stride - min(tail, stride - 1)) for each in sizes]
    return Workload.make(
        (more.pop("batch", 1), *sizes, in_channels),
        (kernel, kernel, kernel, out_channels, in_channels),
        (more.pop("n", 1), *output, out_channels),
        stride,
        **more,
    )


def families(workload, device):
    """One point of each family, with the largest tasks."""
    layout = llvm.layout_of(workload, device, DOT)
    for family in dot_nest.families(layout, device):
        yield list(dot_nest.points(layout, device, family))[-1]


def of_each_order(workload, device):
    """One point of each order, of as many vectors as there can be."""
    return {point.order: point for point in families(workload, device)}.values()


CASES = {
    **{f"kernel {k}": (256, make(kernel=k)) for k in range(1, 10)},
    **{f"stride {s}": (256, make(stride=s, kernel=4)) for s in (1, 2, 3, 4)},
    **{f"kernel {k} below stride 4": (256, make(stride=4, kernel=k)) for k in (1, 3)},
    **{f"output ends {t} early": (256, make(stride=4, tail=t)) for t in (1, 2, 3)},
    **{f"width {w}": (256, make(width=w)) for w in (1, 2, 3, 4, 5, 17)},
    **{f"{c} outputs": (512, make(channels=(16, c))) for c in (1, 2, 3, 4, 8)},
    **{f"{c} outputs, no stride": (256, make(channels=(16, c), stride=1)) for c in (1, 3, 8)},
    **{
        f"{c} inputs, vectors of {bits // 32}": (bits, make(channels=(c, 2)))
        for bits, c in ((128, 17), (128, 35), (256, 17), (256, 24), (256, 35), (512, 17), (512, 24))
    },
    "dilation": (256, make(stride=1, dilations=(3, 2, 4))),
    "dilation prime to stride": (256, make(stride=2, dilations=(3, 1, 5))),
    "dilation and stride share": (256, make(stride=4, dilations=(2, 4, 6))),
    "one position": (256, make(width=1, size=(1, 1), kernel=4)),
    "one output": (
        256,
        Workload.make((1, 2, 2, 1, 17), (3, 3, 3, 1, 17), (1, 4, 4, 1, 1), (2, 2, 1)),
    ),
    "rows that are rounded up": (256, make(size=(2, 5))),
    "batch of two": (256, make(batch=2, n=2, channels=(35, 3), kernel=2, stride=1)),
    "bias": (256, make(channels=(24, 3), bias=True, tail=1)),
    "relu": (512, make(channels=(24, 3), bias=True, activation="relu")),
    "leaky relu": (128, make(channels=(24, 2), activation="leaky_relu", alpha=0.5)),
}


@pytest.mark.parametrize(("turn", "name"), list(enumerate(CASES)))
def test_orders_are_exact(turn, name, host, inexact):
    """Two of them, which turn from case to case."""
    bits, workload = CASES[name]
    device = replace(host, vector_bits=bits)
    points = list(of_each_order(workload, device))
    assert inexact(workload, device, [points[(turn + n) % len(points)] for n in range(2)]) == []


@pytest.mark.parametrize(
    "kind",
    [("NCDHW", "float32"), ("NDHWC", "float64"), ("NDHWC", "float16"), ("NCDHW", "bfloat16")],
)
@pytest.mark.parametrize("channels", [(17, 1), (35, 3)])
def test_every_order_is_exact_in_other_formats_and_types(channels, kind, host, inexact):
    workload = make(channels=channels, tail=1).recast(*kind)
    assert inexact(workload, host, of_each_order(workload, host)) == []


@pytest.mark.parametrize("bits", [128, 256, 512])
def test_every_family_is_exact(bits, host, inexact):
    workload = make(width=16, channels=(17, 1), size=(1, 4))
    device = replace(host, vector_bits=bits)
    assert inexact(workload, device, families(workload, device)) == []


def test_every_task_is_exact(host, inexact):
    workload = make(width=5, size=(3, 7))
    device = replace(host, vector_bits=256)
    tasks = dot_nest.task_h_candidates(DotLayout(workload, 8), device)
    assert tasks == [1, 2, 4, 8]
    points = [Point("dot", order, 1, task_h=t) for order in ("rows", "columns-deep") for t in tasks]
    assert inexact(workload, device, points) == []


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_right(activation, host, call, built):
    workload = make(width=5, channels=(24, 3), bias=True, activation=activation)
    data = random_data(workload, seed=0)
    found = call(built(workload, replace(host, vector_bits=256), Point("dot", "rows", 1)), *data)
    np.testing.assert_allclose(found, reference(workload, *data), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("registers", "width", "vectors"),
    [(16, 64, [1]), (32, 64, [1, 2]), (32, 20, [1]), (32, 4, [1])],
)
def test_accumulators_fit_the_registers(registers, width, vectors):
    """Vectors of 8 sums, in a number that divides those of a row."""
    device = replace(V3, vector_registers=registers)
    layout = DotLayout(make(width=width), 8)
    found = [f.vectors for f in dot_nest.families(layout, device) if f.order == "rows"]
    assert found == vectors


def test_there_is_a_family_of_each_order():
    found = dot_nest.families(DotLayout(make(), 8), V3)
    assert list(found) == [Family(order, 1) for order in dot_nest.ORDERS]


def test_points_are_the_tasks_of_a_family():
    layout = DotLayout(make(size=(2, 4)), 8)
    found = list(dot_nest.points(layout, V3, Family("columns", 1)))
    assert found == [Point("dot", "columns", 1, task_h=t) for t in (1, 2, 4)]


@pytest.mark.parametrize(
    ("height", "tasks"),
    [(1, [1]), (2, [1, 2]), (3, [1, 3]), (5, [1, 2, 4, 8]), (24, [1, 2, 3, 4, 6, 8, 12, 24])],
)
def test_tasks_divide_the_rows(height, tasks):
    assert dot_nest.task_h_candidates(DotLayout(make(size=(2, height)), 8), V3) == tasks


def test_input_is_read_where_it_lies(host, built):
    workload = make(channels=(17, 1))
    device = replace(host, vector_bits=256)
    for point in of_each_order(workload, device):
        assert built(workload, device, point).workspace_bytes == 0
