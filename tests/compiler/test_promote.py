"""Is only the best of what verified promoted, and only from this device's own log?"""

import json
import re
from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from tvm.s_tir import meta_schedule as ms

from tvm_conv3dt import cpu, cuda_driver
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import kernel, promote, schedule, schedule_file
from tvm_conv3dt.compiler.search.log import TuningLog
from tvm_conv3dt.compiler.search.measurer import AnyMeasurer, Failure, Timed
from tvm_conv3dt.compiler.spaces import llvm
from tvm_conv3dt.compiler.spaces.point import Point, point_of
from tvm_conv3dt.compiler.spaces.space import space_of
from tvm_conv3dt.compiler.target import target_of
from tvm_conv3dt.errors import DeviceError, PlatformError, SignatureError, TuningError
from tvm_conv3dt.workload_set import NamedWorkload

FAST, SLOW, WRONG = (Point("phases", "rows", 1, tile_w=tile_w) for tile_w in (1, 2, 3))
FOREIGN = "aarch64" if cpu.architecture() == "x86_64" else "x86-64-v2"


def scheduled(workload, device, point):
    layout = llvm.layout_of(workload, device, point.formulation)
    sch = kernel.new_schedule(layout)
    llvm.apply(sch, layout, device, point.family, point.choose)
    return sch


class Judge(AnyMeasurer):
    """Stands for a measurer: it gives each point its outcome, and the default point 9 seconds."""

    threads = 2

    def __init__(self, outcomes):
        self.outcomes = outcomes

    def measure(self, request, timeout):
        sch = kernel.new_schedule(request.candidate.layout)
        schedule.apply_trace(sch, request.candidate.trace, request.candidate.layout.workload)
        outcome = self.outcomes.get(point_of(sch.trace), 9.0)
        return outcome if isinstance(outcome, Failure) else Timed((outcome,) * 3, 0)


@pytest.fixture
def log(host, small, tmp_path):
    """A log in which WRONG looks fastest, then FAST, then SLOW."""
    log = TuningLog(tmp_path / "logs", host, small)
    with log.writing():
        log.write_runs(
            [
                {"trials": 3, "seed": 7, "started": "then"},
                {"trials": 2, "seed": 8, "started": "now"},
            ]
        )
        database = log.database()
        stored = database.commit_workload(
            kernel.new_schedule(llvm.layout_of(small, host, "phases")).mod
        )
        for point, seconds in ((SLOW, 3.0), (WRONG, 1.0), (FAST, 2.0)):
            trace = scheduled(small, host, point).trace
            database.commit_tuning_record(
                ms.database.TuningRecord(trace, stored, [seconds], target_of(host), None)
            )
    return log


OUTCOMES = {FAST: 0.002, SLOW: 0.004, WRONG: Failure("wrong", "1 of 2 results differ")}


def run(log, tmp_path, outcomes=OUTCOMES, **options):
    (promoted,) = promote.promote(
        [NamedWorkload("net/up", log.workload)],
        log.device,
        logs=tmp_path / "logs",
        schedules=tmp_path / "schedules",
        measurer=Judge(outcomes),
        **options,
    )
    return promoted


def test_fastest_that_verifies_is_promoted(log, tmp_path):
    assert run(log, tmp_path).schedule.decisions["tile_w"] == FAST.tile_w


def test_written_schedule_is_the_promoted_one(log, host, tmp_path):
    promoted = run(log, tmp_path)
    assert promoted.path == tmp_path / "schedules" / host.name / f"{log.workload.id}.json"
    assert schedule_file.read(promoted.path, host.name) == promoted.schedule


def test_what_it_measured_is_recorded(log, tmp_path):
    measured = run(log, tmp_path).schedule.measurement
    assert (measured.median_ms, measured.q1_ms, measured.q3_ms) == (2.0, 2.0, 2.0)
    assert (measured.default_median_ms, measured.threads) == (9000.0, 2)
    assert measured.gflops == round(log.workload.flops / 0.002 / 1e9, 1)


def test_where_it_came_from_is_recorded(log, tmp_path):
    assert run(log, tmp_path).schedule.origin == {"trials": 5, "seed": 8, "tuned": "now"}


def test_default_point_wins_where_nothing_is_faster(log, host, tmp_path):
    promoted = run(log, tmp_path, {FAST: 10.0, SLOW: 10.0, WRONG: 10.0})
    assert promoted.schedule.trace == schedule.default_schedule(log.workload, host).trace


def test_what_no_build_would_take_does_not_compete(log, tmp_path, monkeypatch):
    """A log that was begun with fewer cores has points whose copies are too large with these."""
    space = replace(space_of(log.device), within_bounds=lambda layout, device, point: point != FAST)
    monkeypatch.setattr(promote, "space_of", lambda device: space)
    assert run(log, tmp_path).schedule.decisions["tile_w"] == SLOW.tile_w


def test_only_the_top_of_the_log_competes(log, tmp_path):
    promoted = run(log, tmp_path, {**OUTCOMES, WRONG: 0.008}, top=1)
    assert promoted.schedule.decisions["tile_w"] == WRONG.tile_w


def test_nothing_that_verifies_is_an_error_and_writes_nothing(log, host, tmp_path):
    class Refuses(Judge):
        def measure(self, request, timeout):
            return Failure("wrong", "1 of 2 results differ")

    with pytest.raises(TuningError, match="none of 4 candidates verified: wrong: 1 of 2"):
        promote.promote(
            [NamedWorkload("net/up", log.workload)],
            host,
            logs=tmp_path / "logs",
            schedules=tmp_path / "schedules",
            measurer=Refuses({}),
        )
    assert not (tmp_path / "schedules").exists()


def test_workload_without_a_log_is_an_error(host, small, tmp_path):
    rule = f"failed to promote workload with net/up: there is no log at {tmp_path / 'logs'}"
    with pytest.raises(TuningError, match=f"{re.escape(rule)}.*tune it: tvm-conv3dt tune"):
        run(TuningLog(tmp_path / "logs", host, small), tmp_path)


def test_another_devices_log_is_refused(log, host, tmp_path):
    other = TuningLog(tmp_path / "logs", replace(host, name="another"), log.workload)
    other.path.parent.mkdir()
    log.path.rename(other.path)
    with pytest.raises(SignatureError, match=f"with device '{host.name}'"):
        run(other, tmp_path)
    assert not (tmp_path / "schedules").exists()


def test_log_of_another_tvm_is_refused(log, tmp_path):
    path = log.path / "run.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "signature": {"tvm": "0.26.0", "definition": 1}}))
    with pytest.raises(SignatureError, match=r"0\.26\.0"):
        run(log, tmp_path)
    assert not (tmp_path / "schedules").exists()


def test_log_is_pruned_to_what_is_kept(log, tmp_path):
    run(log, tmp_path, keep=2)
    records = log.database().get_all_tuning_records()
    assert sorted(float(record.run_secs[0]) for record in records) == [1.0, 2.0]


def test_log_stays_where_nothing_is_said_of_keeping(log, tmp_path):
    run(log, tmp_path)
    assert len(log.database().get_all_tuning_records()) == 3


def test_device_that_cannot_run_here_is_refused(small, tmp_path):
    device = catalogue.get(FOREIGN)
    with pytest.raises(DeviceError, match=f"{FOREIGN}: its code is for {device.arch}"):
        run(TuningLog(tmp_path / "logs", device, small), tmp_path)


def test_gpu_that_is_not_there_is_an_error(small, tmp_path, monkeypatch):
    def find():
        raise PlatformError("no driver")

    monkeypatch.setattr(cuda_driver, "find", find)
    with pytest.raises(PlatformError, match="no driver"):
        run(TuningLog(tmp_path / "logs", catalogue.get("cuda-sm80"), small), tmp_path)


class Boards(Judge):
    """Measures on the named boards, one for each call; the last one stays."""

    def __init__(self, *boards):
        super().__init__(OUTCOMES)
        self.boards = list(boards)

    def measure(self, request, timeout):
        outcome = super().measure(request, timeout)
        board = self.boards.pop(0) if len(self.boards) > 1 else self.boards[0]
        if isinstance(outcome, Failure):
            return outcome
        # A board of its own speed.
        return Timed(tuple(len(board) * each for each in outcome.seconds), 0, board)

    def require_runnable(self, device):
        """Run anything."""


def promoted_on(measurer, log, tmp_path):
    (promoted,) = promote.promote(
        [NamedWorkload("net/up", log.workload)],
        log.device,
        logs=tmp_path / "logs",
        schedules=tmp_path / "schedules",
        measurer=measurer,
    )
    return promoted.schedule.measurement


def test_seconds_of_different_boards_are_not_mixed(log, tmp_path):
    """A board is lost after two candidates: all are timed again on the next one."""
    measured = promoted_on(Boards("slowest", "slowest", "one"), log, tmp_path)
    assert (measured.q1_ms, measured.median_ms, measured.q3_ms) == (6.0, 6.0, 6.0)
    assert measured.default_median_ms == 27000.0


def test_boards_that_never_last_are_an_error(log, tmp_path):
    with pytest.raises(TuningError, match="of 5 boards none lasted"):
        promoted_on(Boards(*["a", "bb"] * 50), log, tmp_path)
    assert not (tmp_path / "schedules").exists()


def test_fleet_tunes_for_devices_that_cannot_run_here(log, tmp_path):
    """What runs there is told by the measurer."""
    device = catalogue.get(FOREIGN)
    with pytest.raises(TuningError, match="there is no log at"):
        promoted_on(Boards("one"), TuningLog(tmp_path / "logs", device, log.workload), tmp_path)
