"""Does tuning go on where it stopped, and end in schedules of what was right?"""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

pytest.importorskip("tvm")
pytest.importorskip("xgboost")

from tvm_conv3dt import cpu
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import promote, schedule, schedule_file, tuning
from tvm_conv3dt.compiler.search import evolution, measurer
from tvm_conv3dt.compiler.search.measurer import Failure, Measurer
from tvm_conv3dt.errors import DeviceError, PlatformError, SignatureError, TuningError
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

# A space of few points, so that searching it is quick.
TINY = Workload.make((1, 1, 1, 2, 4), (1, 1, 2, 8, 4), (1, 1, 1, 4, 8), (1, 1, 2))
NAMED = [NamedWorkload("tiny", TINY)]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Timing as short as can be: what is measured does not matter here."""
    monkeypatch.setattr(promote, "_ROUND_SECONDS", 0.001)
    monkeypatch.setattr(promote, "_ROUNDS", 2)
    monkeypatch.setattr(measurer, "processor_name", lambda device: "a CPU")
    monkeypatch.setattr(evolution, "_TIMING_SECONDS", 0.001)


@pytest.fixture
def tune(host, tmp_path):
    def tune(trials, named=NAMED, device=host, **options):
        reports = []
        on_progress = options.pop("on_progress", lambda report: None)

        def report(progress):
            reports.append(progress)
            on_progress(progress)

        folders = {"logs": tmp_path / "logs", "schedules": tmp_path / "schedules"}
        promoted = tuning.tune(
            named, device, trials=trials, threads=1, on_progress=report, **folders, **options
        )
        return promoted, reports

    return tune


@pytest.fixture
def folder(host, tmp_path):
    return tmp_path / "logs" / host.name / TINY.id


def runs(folder):
    return json.loads((folder / "run.json").read_text())["runs"]


def records(folder):
    return (folder / "database_tuning_record.json").read_text().splitlines()


def test_tuning_ends_in_a_schedule_of_what_was_searched(tune, folder, host, tmp_path):
    (promoted,), reports = tune(3)
    assert [(each.name, each.trial, each.trials, each.failure) for each in reports] == [
        ("tiny", number, 3, None) for number in (1, 2, 3)
    ]
    assert reports[-1].best_ms == min(each.milliseconds for each in reports)
    assert schedule_file.read(promoted.path, host.name) == promoted.schedule
    assert promoted.schedule.origin["trials"] == 3
    assert len(records(folder)) == 3


def test_other_formats_and_types_are_tuned(tune):
    workload = TINY.recast("NCDHW", "bfloat16")
    (promoted,), reports = tune(1, named=[NamedWorkload("tiny", workload)])
    assert [each.failure for each in reports] == [None]
    assert promoted.schedule.workload == workload


def test_resumed_tuning_counts_earlier_trials(tune, folder):
    tune(2)
    (promoted,), reports = tune(3)
    assert [each.trial for each in reports] == [3]
    assert promoted.schedule.origin["trials"] == 3
    assert [run["trials"] for run in runs(folder)] == [2, 1]


def test_no_time_at_all_promotes_the_default_point(tune, host):
    (promoted,), reports = tune(50, time_limit=0)
    assert reports == []
    assert promoted.schedule.trace == schedule.default_schedule(TINY, host).trace


def test_interrupted_tuning_keeps_its_records_and_goes_on(tune, folder, tmp_path):
    def interrupt(report):
        if report.trial == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(50, on_progress=interrupt)
    assert runs(folder)[0]["trials"] == 2
    kept = records(folder)
    assert len(kept) >= 1
    assert not (tmp_path / "schedules").exists()
    _, reports = tune(3)
    assert [each.trial for each in reports] == [3]
    assert records(folder)[: len(kept)] == kept


KILLED = """
import os, signal, sys
from pathlib import Path
from tvm_conv3dt.compiler import tuning
from tvm_conv3dt.compiler.target import resolve
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload
def kill(report):
    if report.trial == 3:
        os.kill(os.getpid(), signal.SIGKILL)
folder = Path(sys.argv[1])
named = [NamedWorkload("tiny", Workload.from_id(sys.argv[2]))]
tuning.tune(named, resolve("host"), trials=50, threads=1, on_progress=kill,
            logs=folder / "logs", schedules=folder / "schedules")
"""


def test_killed_tuning_goes_on_from_its_records(tune, folder, tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path), TINY.id]
    assert subprocess.run(command, check=False).returncode == -9
    kept = records(folder)
    assert len(kept) == 3
    with (folder / "database_tuning_record.json").open("a") as file:
        file.write('[0, [[[["GetSBlock", [')  # as if killed in the middle of a line
    (promoted,), reports = tune(4)
    assert records(folder)[:3] == kept
    assert reports[-1].trial == 4
    assert promoted.path.is_file()


def test_log_that_another_process_holds_is_refused(tune, folder):
    folder.mkdir(parents=True)
    program = (
        "import sys; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(TuningError, match="another process is tuning this workload"):
            tune(2)
        holder.stdin.close()


def test_candidates_that_fail_are_never_promoted(tune, host, folder, monkeypatch):
    """Only the default point is right; all else fails, and is neither recorded nor promoted."""
    default = schedule.default_schedule(TINY, host).trace
    measure = Measurer.measure

    def judge(self, request, timeout):
        if request.candidate.trace != default:
            return Failure("wrong", "1 of 2 results differ")
        return measure(self, request, timeout)

    monkeypatch.setattr(Measurer, "measure", judge)
    (promoted,), reports = tune(4)
    assert "wrong" in {each.failure for each in reports}
    assert promoted.schedule.trace == default
    assert len(records(folder)) == sum(each.failure is None for each in reports)


def test_nothing_right_is_an_error(tune, monkeypatch, tmp_path):
    monkeypatch.setattr(Measurer, "measure", lambda *_: Failure("crash", "ended with -11"))
    with pytest.raises(TuningError, match="candidates verified: crash: ended with -11"):
        tune(2)
    assert not (tmp_path / "schedules").exists()


def test_small_workloads_come_first(tune):
    large = Workload.make((1, 1, 1, 4, 4), (1, 1, 2, 8, 4), (1, 1, 1, 8, 8), (1, 1, 2))
    promoted, reports = tune(1, named=[NamedWorkload("large", large), *NAMED])
    assert [(each.name, each.index, each.count) for each in reports] == [
        ("tiny", 0, 2),
        ("large", 1, 2),
    ]
    assert [each.name for each in promoted] == ["tiny", "large"]


def test_log_of_another_device_is_refused(tune, folder, host):
    tune(1)
    other = replace(host, name="another")
    (folder.parents[1] / "another").mkdir()
    folder.rename(folder.parents[1] / "another" / TINY.id)
    with pytest.raises(SignatureError, match=f"with device '{host.name}'"):
        tune(2, device=other)


@pytest.mark.parametrize(("name", "error"), [("cuda-sm80", PlatformError), (None, DeviceError)])
def test_device_that_cannot_run_here_is_refused_before_anything(name, error, tune, tmp_path):
    foreign = "aarch64" if cpu.architecture() == "x86_64" else "x86-64-v2"
    with pytest.raises(error, match=name or foreign):
        tune(1, device=catalogue.get(name or foreign))
    assert list(tmp_path.iterdir()) == []
