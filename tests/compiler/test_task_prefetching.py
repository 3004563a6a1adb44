"""Does a task ask for all filters of the next one, once, where it reads filters of its own?"""

from dataclasses import replace
from itertools import product

import pytest

tvm = pytest.importorskip("tvm")

import tvm_ffi
from tvm import tirx

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import task_prefetching
from tvm_conv3dt.compiler.expressions import at
from tvm_conv3dt.compiler.spaces import llvm as space
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.tile_loops import loops_in
from tvm_conv3dt.spec import Workload

from .geometries import evenly

V4 = catalogue.get("x86-64-v4")
CHANNELS = 5  # of the input


def workload(out_channels=96, **more):
    return evenly((CHANNELS, out_channels), kernel=2, width=3, **more)


@pytest.fixture
def rewritten(left_by):
    """What the pass makes of a point's function."""

    def rewrite(workload, point, device=V4, stays=0):
        return left_by(task_prefetching, "prefetch_tasks", stays, workload, device, point)

    return rewrite


def asked(function):
    """The prefetches of a function, with the loops around them and the condition of each."""
    (task,) = [each for each in loops_in(function.body) if each.kind == tirx.ForKind.PARALLEL]
    serial = [each for each in loops_in(task.body) if each.kind == tirx.ForKind.SERIAL]
    found = []

    def visit(statement):
        if "llvm.prefetch" in str(statement.then_case):
            address = statement.then_case.value.args[1].args[0]
            found.append((statement.condition, address.indices[0]))

    tvm_ffi.structural_walk(task, (tirx.IfThenElse, visit))
    return task, serial, found


@pytest.mark.parametrize(("vectors", "tile_h"), [(2, 1), (3, 1), (3, 3), (1, 3), (5, 1)])
def test_next_filters_are_asked_for_once(vectors, tile_h, rewritten):
    layer = workload(32 * vectors)
    point = Point("phases", "filters", vectors, tile_h, 3)
    task, serial, found = asked(rewritten(layer, point))
    places = []
    for turns in product(*(range(int(each.extent)) for each in serial)):
        values = {each.loop_var: turn for each, turn in zip(serial, turns, strict=True)}
        for condition, index in found:
            if at(condition, {**values, task.loop_var: 3}):
                places.append(int(at(index, {**values, task.loop_var: 3})))
    taps = 8
    panel, phase = divmod(4, taps)  # of the next task
    lines = taps * CHANNELS
    vectors_of_next = range(panel * vectors, (panel + 1) * vectors)
    expected = [
        (vector * lines + phase * CHANNELS + channel) * 16
        for vector in vectors_of_next
        for channel in range(CHANNELS)
    ]
    assert sorted(places) == expected


@pytest.mark.parametrize(
    ("layer", "point", "device"),
    [
        # All tasks read the same filters.
        (workload(), Point("phases", "panels", 2, 1, 3), V4),
        # One tile is a task, which has no more time than its own filters take.
        (
            Workload.make((1, 1, 1, 1, 5), (2, 2, 2, 96, 5), (1, 2, 2, 2, 96), 2),
            Point("phases", "filters", 2, 1, 1),
            V4,
        ),
        # Some turns do less, for taps that are not there.
        (evenly((5, 96), kernel=3, width=3), Point("phases", "filters", 2, 1, 3), V4),
        # A vector is half a line.
        (
            workload(),
            Point("phases", "filters", 2, 1, 3),
            replace(V4, vector_bits=256, vector_registers=16),
        ),
    ],
    ids=["shared", "one tile", "taps are skipped", "half lines"],
)
def test_others_ask_for_nothing(layer, point, device, rewritten):
    assert "llvm.prefetch" not in str(rewritten(layer, point, device))


def test_few_filters_are_not_asked_for(rewritten):
    point = Point("phases", "filters", 2, 1, 3)
    bytes_of_all = 8 * CHANNELS * 96 * 4
    assert "llvm.prefetch" not in str(rewritten(workload(), point, stays=bytes_of_all))
    assert "llvm.prefetch" in str(rewritten(workload(), point, stays=bytes_of_all - 1))


@pytest.mark.parametrize("name", ["x86-64-v4-amx", "neoverse-v1"])
def test_taps_that_some_phases_lack_are_no_turns(name, rewritten):
    # Loops over the taps that there are have no constant number of turns where there are fewer taps than phases.
    device = catalogue.get(name)
    layer = evenly((64, 512), kernel=2, width=4, stride=3, dtype="bfloat16")
    points = {
        each.formulation: each for each in space.points(layer, device) if each.order == "filters"
    }
    assert points
    for point in points.values():
        rewritten(layer, point, device)
