"""Do tiles that would stick out start early instead, and are all others left as they are?"""

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

import tvm_ffi
from tvm import s_tir, te, tirx

from tvm_conv3dt.compiler.overlap import overlap_tiles


def doubled(*extents):
    x = te.placeholder(extents, "float32", "x")
    return s_tir.Schedule(
        te.create_prim_func([x, te.compute(extents, lambda *index: x[index] * 2, "y")])
    )


def tiled(extents, tiles, kind="unroll"):
    """Doubles an array of `extents`, by tiles whose loops are of a kind."""
    sch = doubled(*extents)
    halves = [
        sch.split(loop, [None, tile]) for loop, tile in zip(sch.get_loops("y"), tiles, strict=True)
    ]
    sch.reorder(*(outer for outer, _ in halves), *(inner for _, inner in halves))
    for _, inner in halves:
        getattr(sch, kind)(inner) if kind != "serial" else None
    return sch.mod["main"]


def predicates(function):
    found = []
    tvm_ffi.structural_walk(
        function, (s_tir.SBlockRealize, lambda realize: found.append(str(realize.predicate)))
    )
    return [each for each in found if each not in ("T.bool(True)", "True")]


def check_doubles(function, extents):
    x = np.arange(np.prod(extents), dtype=np.float32).reshape(extents)
    y = tvm.runtime.tensor(np.full(extents, np.nan, np.float32))
    tvm.compile(function, target="llvm")(tvm.runtime.tensor(x), y)
    assert np.array_equal(y.numpy(), 2 * x)


@pytest.mark.parametrize(
    ("extent", "tile"), [(10, 3), (10, 4), (10, 9), (11, 2), (7, 6), (5, 4), (515, 16)]
)
def test_last_tile_starts_early(extent, tile):
    before = tiled([extent], [tile])
    after = overlap_tiles(before)
    assert (len(predicates(before)), predicates(after)) == (1, [])
    assert f", {extent - tile})" in str(after)
    check_doubles(after, [extent])


def test_tiles_overlap_on_every_axis():
    after = overlap_tiles(tiled([7, 10, 5], [2, 4, 3]))
    assert predicates(after) == []
    assert str(after).count("T.min(") == 3
    check_doubles(after, [7, 10, 5])


def test_tiles_that_fit_are_left_alone():
    before = tiled([12, 6], [4, 3])
    assert tvm_ffi.structural_equal(overlap_tiles(before), before)


@pytest.mark.parametrize("kind", ["serial", "vectorize"])
def test_loops_that_are_not_unrolled_are_left_alone(kind):
    before = tiled([10], [4], kind)
    assert tvm_ffi.structural_equal(overlap_tiles(before), before)
    assert len(predicates(before)) == 1


def test_task_around_a_tile_keeps_its_predicate():
    """Rows of tiles are dealt out to tasks: the last task is cut short, and its last tile starts early."""
    sch = doubled(23)
    outer, inner = sch.split(sch.get_loops("y")[0], [None, 3])
    sch.split(outer, [None, 3])
    sch.unroll(inner)
    after = overlap_tiles(sch.mod["main"])
    assert "T.min(" in str(after)
    check_doubles(after, [23])


@pytest.mark.parametrize(("tasks", "extent"), [(1, 7), (2, 7), (2, 13)])
def test_condition_may_be_written_another_way(tasks, extent):
    """As where tasks are fused: TVM factors the condition, or drops a remainder of what is in range."""
    sch = doubled(2, extent)
    n, position = sch.get_loops("y")
    outer, inner = sch.split(position, [None, 3])
    task, outer = sch.split(outer, [None, tasks])
    sch.reorder(n, task, outer, inner)
    sch.parallel(sch.fuse(n, task))
    sch.unroll(inner)
    after = overlap_tiles(sch.mod["main"])
    assert f", {extent - 3})" in str(after)
    assert all("* 3" not in each for each in predicates(after))
    check_doubles(after, [2, extent])


@pytest.mark.parametrize(("first", "tile"), [(2, 3), (2, 7), (9, 4), (10, 2)])
def test_tiles_of_a_part_overlap_within_it(first, tile):
    """As where the rest of an axis is not read: the block's value is more than what the condition bounds."""
    x = te.placeholder((12,), "float32", "x")
    copied = te.compute((12,), lambda i: x[i] * 2, "copied")
    y = te.compute((2, 12 - first), lambda n, i: copied[i + first], "y")
    sch = s_tir.Schedule(te.create_prim_func([x, y]))
    block = sch.get_sblock("copied")
    sch.compute_at(block, sch.get_loops("y")[0])
    _, inner = sch.split(sch.get_loops(block)[-1], [None, min(tile, 12 - first)])
    sch.unroll(inner)
    after = overlap_tiles(sch.mod["main"])
    assert predicates(after) == []
    values = np.arange(12, dtype=np.float32)
    found = tvm.runtime.tensor(np.full((2, 12 - first), np.nan, np.float32))
    tvm.compile(after, target="llvm")(tvm.runtime.tensor(values), found)
    assert np.array_equal(found.numpy(), [2 * values[first:]] * 2)


def test_condition_of_another_kind_is_kept():
    sch = doubled(10)
    _, inner = sch.split(sch.get_loops("y")[0], [None, 4])
    sch.unroll(inner)
    function = sch.mod["main"]
    other = tirx.Var("other", "int32") < 3

    def add(realize):
        if realize.block.name_hint != "y":
            return realize
        both = tirx.And(realize.predicate, other)
        return s_tir.SBlockRealize(realize.iter_values, both, realize.block)

    function = tvm_ffi.structural_map(function, [(s_tir.SBlockRealize, add)])
    assert predicates(overlap_tiles(function)) == ["other < 3"]


def test_function_without_loops_is_left_alone():
    sch = doubled(1)
    assert tvm_ffi.structural_equal(overlap_tiles(sch.mod["main"]), sch.mod["main"])
