"""Is a point told by its trace, and by nothing else?"""

import pytest

pytest.importorskip("tvm")

from tvm import s_tir, te

from tvm_conv3dt.compiler.spaces.point import Family, Point, decider, mark, point_of

POINT = Point("fold-hw", "panels", 3, tile_h=2, tile_w=5, stream=1, task_h=4)
DECISIONS = ("vectors", "tile_h", "tile_w", "stream", "task_h")
CANDIDATES = [1, 2, 3, 4, 5]


@pytest.fixture
def sch():
    x = te.placeholder((4,), "float32", "x")
    return s_tir.Schedule(te.create_prim_func([x, te.compute((4,), lambda i: x[i], "y")]))


def decided(sch, choose, names=DECISIONS):
    mark(sch, sch.get_sblock("y"), POINT.formulation, POINT.order)
    decide = decider(sch, choose)
    for name in names:
        decide(name, CANDIDATES)
    return sch.trace


def test_family_is_what_is_structural():
    assert POINT.family == Family("panels", 3, 2)


def test_family_has_one_row_where_nothing_is_said():
    assert Point("dot", "rows", 2).family == Family("rows", 2) == ("rows", 2, 1)


@pytest.mark.parametrize(
    ("name", "index"), [("vectors", 2), ("tile_h", 1), ("tile_w", 4), ("stream", 0), ("task_h", 3)]
)
def test_point_chooses_its_own_values(name, index):
    assert POINT.choose(name, CANDIDATES) == index


def test_value_that_is_no_candidate_is_an_error():
    with pytest.raises(ValueError, match="5 is not in list"):
        POINT.choose("tile_w", [1, 2])


def test_trace_tells_its_point(sch):
    assert point_of(decided(sch, POINT.choose)) == POINT


def test_decisions_left_out_have_their_defaults(sch):
    trace = decided(sch, POINT.choose, ["vectors", "tile_h"])
    assert point_of(trace) == Point("fold-hw", "panels", 3, tile_h=2)


def test_decisions_that_nobody_makes_are_sampled(sch):
    found = point_of(decided(sch, lambda name, candidates: None))
    assert {getattr(found, name) for name in DECISIONS} <= set(CANDIDATES)


def test_trace_is_read_after_json(sch):
    json = decided(sch, POINT.choose).as_json()
    x = te.placeholder((4,), "float32", "x")
    other = s_tir.Schedule(te.create_prim_func([x, te.compute((4,), lambda i: x[i], "y")]))
    s_tir.schedule.Trace.apply_json_to_schedule(json, other)
    assert point_of(other.trace) == POINT
