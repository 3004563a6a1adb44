"""Is all that the next task copies asked for, once, and by layers whose input comes from memory only?"""

from dataclasses import replace
from itertools import product

import pytest

tvm = pytest.importorskip("tvm")

import tvm_ffi
from tvm import ir, tirx

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import input_prefetching
from tvm_conv3dt.compiler.expressions import at, mentions
from tvm_conv3dt.compiler.prefetching import LINE_BYTES
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.tile_loops import loops_in

from .geometries import evenly

UNIT = replace(catalogue.get("x86-64-v4-amx"), cores=2)
PLAIN = {"kernel": 2, "width": 32, "padding": "VALID"}


@pytest.fixture
def rewritten(left_by):
    """What the pass makes of a point's function."""

    def rewrite(workload, point, stays=0):
        return left_by(input_prefetching, "prefetch_inputs", stays, workload, UNIT, point)

    return rewrite


def asked(function):
    """The elements that the second task asks for, in all."""
    (task,) = [each for each in loops_in(function.body) if each.kind == tirx.ForKind.PARALLEL]
    loops = loops_in(task.body)
    found = []

    def visit(call: ir.Call):
        if "llvm.prefetch" in str(call):
            found.append(call.args[1].args[0].indices[0])

    tvm_ffi.structural_walk(task, (ir.Call, visit))
    mentioned = [each for each in loops if any(mentions(f, each.loop_var) for f in found)]
    places = []
    for turns in product(*(range(int(each.extent)) for each in mentioned)):
        values = {each.loop_var: turn for each, turn in zip(mentioned, turns, strict=True)}
        places += [int(at(each, {**values, task.loop_var: 1})) for each in found]
    return places


@pytest.mark.parametrize(
    ("channels", "order", "task_h"),
    [
        ((64, 32), "panels", 1),
        ((64, 32), "rows", 1),
        ((96, 80), "panels", 3),
    ],
)
def test_all_of_the_next_task_is_asked_for(channels, order, task_h, rewritten):
    workload = evenly(channels, **PLAIN)
    point = Point("amx-split-1x1-phases", order, 1, 1, task_h=task_h)
    found = asked(rewritten(workload, point))
    _, _, rows, columns, inputs = workload.input
    of_task = min(task_h * 16, rows * columns) * inputs
    line = LINE_BYTES // 4
    assert sorted(set(found)) == [2 * of_task + n * line for n in range(of_task // line)]


@pytest.mark.parametrize(
    ("change", "order", "stays"),
    [
        ({"kernel": 3, "padding": "SAME"}, "panels", 0),  # zeros around rows: not one stretch
        ({}, "phases", 0),  # tasks of all phases read the same
        ({}, "panels", 2 * 3 * 32 * 64 * 4),
    ],
    ids=["zeros", "phases", "small"],
)
def test_others_ask_for_nothing(change, order, stays, rewritten):
    point = Point("amx-split-1x1-phases", order, 1, 1, task_h=1)
    function = rewritten(evenly((64, 32), **{**PLAIN, **change}), point, stays)
    assert "llvm.prefetch" not in str(function)
