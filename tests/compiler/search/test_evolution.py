"""Does a search propose points of the space, and stop when it should?"""

import time
from dataclasses import replace

import pytest
import tvm_ffi

pytest.importorskip("tvm")
pytest.importorskip("xgboost")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.schedule import apply_trace
from tvm_conv3dt.compiler.search.evolution import Search, SearchSettings
from tvm_conv3dt.compiler.search.log import TuningLog
from tvm_conv3dt.compiler.search.measurer import AnyMeasurer, Failure, Timed
from tvm_conv3dt.compiler.spaces.cuda import layout_of
from tvm_conv3dt.compiler.spaces.default_point import default_point
from tvm_conv3dt.compiler.spaces.gpu_default_point import default_points
from tvm_conv3dt.compiler.spaces.llvm import points, within_bounds
from tvm_conv3dt.compiler.spaces.point import point_of
from tvm_conv3dt.spec import Workload

from ..geometries import evenly


class Judge(AnyMeasurer):
    """Stands for a measurer: a candidate takes as long as `seconds` says for its number, or fails."""

    def __init__(self, *outcomes):
        self.outcomes = outcomes
        self.requests = []

    def measure(self, request, timeout):
        outcome = self.outcomes[len(self.requests) % len(self.outcomes)]
        self.requests.append(request)
        return Timed((outcome,) * 3, 0) if isinstance(outcome, float) else outcome


class Partial(Judge):
    """Finds one formulation faster than all others."""

    def __init__(self, formulation):
        super().__init__(9.0)
        self.formulation = formulation

    def measure(self, request, timeout):
        others = super().measure(request, timeout)
        return Timed((1.0,) * 3, 0) if request.candidate.layout.name == self.formulation else others


def search(log, judge, trials, deadline=None, on_trial=None, seed=3):
    reports = []

    def report(*values):
        reports.append(values)
        if on_trial is not None:
            on_trial(*values)

    settings = SearchSettings(trials, deadline, seed, threads=1)
    found = Search(log, settings, judge, report)
    with log.writing():
        found.run()
    return reports


@pytest.fixture
def log(host, small, tmp_path):
    return TuningLog(tmp_path, host, small)


@pytest.fixture(scope="module")
def twelve(host, small, tmp_path_factory):
    """The points that a search of twelve trials proposes, in their order."""
    log = TuningLog(tmp_path_factory.mktemp("logs"), host, small)
    search(log, judge := Judge(4.0, 3.0, 2.0, 1.0), 12)
    return points_of(judge, log)


def points_of(judge, log):
    found = []
    for request in judge.requests:
        sch = kernel.new_schedule(request.candidate.layout)
        apply_trace(sch, request.candidate.trace, log.workload)
        found.append(point_of(sch.trace))
    return found


def test_default_point_is_tried_first(log, small, host):
    judge = Judge(1.0)
    search(log, judge, 1)
    assert points_of(judge, log) == [default_point(small, host)]


def test_candidates_are_points_of_the_space(twelve, small, host):
    assert len(twelve) == 12
    assert set(twelve) <= set(points(small, host))


def test_no_candidate_is_proposed_twice(twelve):
    found = twelve[1:]  # the default point may be met again
    assert len(set(found)) == len(found)


def test_every_trial_is_reported(log):
    reports = search(log, Judge(0.25, 0.5), 3)
    assert reports == [(1, 250.0, None), (2, 500.0, None), (3, 250.0, None)]


def test_failure_is_reported_by_its_kind_and_kept_out_of_the_log(log):
    reports = search(log, Judge(1.0, Failure("wrong", "1 of 2 results differ")), 4)
    assert [failure for _, _, failure in reports] == [None, "wrong", None, "wrong"]
    assert len(log.database().get_all_tuning_records()) == 2
    assert log.runs()[0]["failures"] == {"wrong": 2}


def test_what_copies_more_than_is_allowed_is_not_measured(tmp_path):
    """Parts of a plane, and planes, are drawn one by one, and not all that fit alone fit together."""
    workload, device = evenly((64, 16), width=160), catalogue.get("x86-64-v4-amx")
    log, judge = TuningLog(tmp_path, device, workload), Partial("amx-split-1x1-phases")
    search(log, judge, 12)
    found = points_of(judge, log)
    assert {(4, 1), (1, 2)} <= {(each.task_h, each.task_d) for each in found}
    for point, request in zip(found, judge.requests, strict=True):
        assert within_bounds(request.candidate.layout, device, point)


def test_default_point_is_measured_however_many_cores_there_are(small, host, tmp_path):
    log, judge = TuningLog(tmp_path, replace(host, cores=10**4), small), Judge(1.0)
    search(log, judge, 1)
    assert points_of(judge, log) == [default_point(small, log.device)]


def test_search_in_which_all_fails_ends(log):
    reports = search(log, Judge(Failure("crash", "ended with -11")), 3)
    assert len(reports) == 3
    assert log.runs()[0]["best_ms"] is None


def test_run_says_what_it_was(log):
    search(log, Judge(0.5, 0.25), 2)
    (run,) = log.runs()
    assert {name: run[name] for name in ("trials", "seed", "threads", "finished", "best_ms")} == {
        "trials": 2,
        "seed": 3,
        "threads": 1,
        "finished": True,
        "best_ms": 250.0,
    }


def test_earlier_trials_count(log):
    search(log, Judge(0.5), 2)
    reports = search(log, Judge(1.0), 5)
    assert [trial for trial, _, _ in reports] == [3, 4, 5]
    assert [run["trials"] for run in log.runs()] == [2, 3]


def test_best_of_an_earlier_run_is_known(log):
    search(log, Judge(0.25), 1)
    search(log, judge := Judge(1.0), 2)
    assert judge.requests[0].give_up_seconds == 0.75
    assert log.runs()[1]["best_ms"] == 250.0


def test_nothing_is_tried_when_all_trials_are_done(log):
    search(log, Judge(1.0), 2)
    assert search(log, Judge(1.0), 2) == []


def test_nothing_is_tried_after_the_deadline(log):
    assert search(log, Judge(1.0), 4, deadline=time.monotonic()) == []
    assert log.runs()[0]["finished"] is False


def test_deadline_in_the_middle_stops_the_search(log, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("tvm_conv3dt.compiler.search.evolution.time.monotonic", lambda: clock[0])

    def tick(*_):
        clock[0] += 1.0

    reports = search(log, Judge(1.0), 20, deadline=3.0, on_trial=tick)
    assert len(reports) == 3
    assert log.runs()[0]["trials"] == 3


def test_interruption_keeps_records_and_counts(log):
    def interrupt(trial, *_):
        if trial == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(log, Judge(1.0), 20, on_trial=interrupt)
    (run,) = log.runs()
    assert (run["trials"], run["finished"]) == (3, False)
    assert len(log.database().get_all_tuning_records()) >= 2


@pytest.mark.parametrize(("seed", "same"), [(3, True), (4, False)])
def test_same_seed_proposes_the_same_and_another_something_else(seed, same, log, twelve):
    search(log, judge := Judge(4.0, 3.0, 2.0, 1.0), 8, seed=seed)
    assert (points_of(judge, log) == twelve[:8]) == same


GPU = catalogue.get("cuda-sm90")
# Tiles whose zeros at the end fill up alike: their operators are one and the same to the database.
LAYER = Workload.make((1, 2, 2, 5, 16), (3, 3, 3, 16, 16), (1, 4, 4, 10, 16), 2)


def tiles(points):
    return list(dict.fromkeys(point.formulation for point in points))


def timed_by_point(request, timeout):
    """Made-up seconds that depend on the candidate alone: large register tiles are fast."""
    sch = kernel.new_schedule(request.candidate.layout)
    apply_trace(sch, request.candidate.trace, LAYER)
    point = point_of(sch.trace)
    assert point.formulation == request.candidate.layout.name
    return Timed((1.0 + 1 / (point.rows * point.columns),) * 3, 0)


def test_search_for_a_gpu_goes_on_in_the_best_tile(tmp_path):
    log = TuningLog(tmp_path, GPU, LAYER)
    judge = Judge()
    measured = []

    def measure(request, timeout):
        judge.requests.append(request)
        outcome = timed_by_point(request, timeout)
        measured.append(outcome.seconds[0])
        return outcome

    judge.measure = measure
    first = default_points(log.workload, GPU)
    search(log, judge, len(first) + 6)
    points = points_of(judge, log)
    assert points[: len(first)] == first
    best = points[measured.index(min(measured[: len(first)]))].formulation
    rest = points[len(first) :]
    assert not set(rest) & set(first)
    assert best in tiles(rest)


def test_search_in_a_space_of_few_points_ends_by_itself(tmp_path):
    log = TuningLog(tmp_path, GPU, LAYER.recast(dtype="float16"))
    search(log, judge := Judge(1.0), 1000)
    points, first = points_of(judge, log), default_points(log.workload, GPU)
    assert points[: len(first)] == first
    assert len(points) == len(set(points))
    assert len(points) < 100
    (run,) = log.runs()
    assert (run["trials"], run["finished"]) == (len(points), False)


def test_records_of_a_gpu_are_of_their_own_operators(tmp_path):
    """A log is read again: every trace fits the operator that it is told with."""
    log = TuningLog(tmp_path, GPU, LAYER)
    search(log, Judge(3.0, 2.0), 8)
    records = log.database().get_all_tuning_records()
    assert len(records) == 8
    for record in records:
        layout = layout_of(LAYER, GPU, point_of(record.trace).formulation)
        assert tvm_ffi.structural_equal(record.workload.mod, kernel.new_schedule(layout).mod)
    search(log, again := Judge(1.0), 10)
    assert len(again.requests) == 2
