"""Is a log one device's, one writer's, and whole after a kill?"""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from tvm.s_tir import meta_schedule as ms

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import kernel, schedule
from tvm_conv3dt.compiler.search.log import TuningLog
from tvm_conv3dt.compiler.signature import signature
from tvm_conv3dt.compiler.target import target_of
from tvm_conv3dt.errors import FileFormatError, FileWriteError, SignatureError, TuningError
from tvm_conv3dt.spec import Workload

RUN = {"trials": 3, "seed": 7, "started": "2026-01-01T00:00:00+00:00"}


@pytest.fixture
def log(host, small, tmp_path):
    return TuningLog(tmp_path, host, small)


@pytest.fixture
def filled(log):
    """A log of one run and three records, of 3, 1 and 2 seconds."""
    with log.writing():
        log.write_runs([RUN])
        fill(log, [3.0, 1.0, 2.0])
    return log


def fill(log, seconds):
    database = log.database()
    sch = schedule.default_schedule(log.workload, log.device).apply(log.device)
    default = schedule.default_schedule(log.workload, log.device)
    stored = database.commit_workload(kernel.new_schedule(default.layout(log.device)).mod)
    for each in seconds:
        database.commit_tuning_record(
            ms.database.TuningRecord(sch.trace, stored, [each], target_of(log.device), None)
        )


def times(log):
    records = log.database().get_all_tuning_records()
    return sorted(float(record.run_secs[0]) for record in records)


def records_file(log):
    return log.path / "database_tuning_record.json"


def change(log, **changes):
    path = log.path / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_new_log_is_empty(log):
    assert (log.exists, log.runs()) == (False, [])


def test_folder_is_named_by_device_and_workload(log, host, small, tmp_path):
    assert log.path == tmp_path / host.name / small.id


def test_runs_and_records_are_read_again(filled, host, small, tmp_path):
    again = TuningLog(tmp_path, host, small)
    assert again.exists
    assert again.runs() == [RUN]
    assert times(again) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("left", ['[0, [[["GetSBl', "[", '{"half'])
def test_record_that_a_killed_process_left_unfinished_is_dropped(left, filled):
    with records_file(filled).open("a") as file:
        file.write(left)
    assert times(filled) == [1.0, 2.0, 3.0]
    assert records_file(filled).read_text().endswith("\n")


def test_record_after_a_dropped_one_is_kept(filled):
    with records_file(filled).open("a") as file:
        file.write("[0, [[[")
    fill(filled, [4.0])
    assert times(filled) == [1.0, 2.0, 3.0, 4.0]


def test_workload_that_a_killed_process_left_unfinished_is_written_anew(log):
    with log.writing():
        log.write_runs([])
        (log.path / "database_workload.json").write_text('["half of a')
        fill(log, [1.0])
    assert times(log) == [1.0]


@pytest.mark.parametrize(
    "line", ["no JSON", "", "[]", "{}", "null", "7", "[7, []]", '["a", "bcde"]']
)
def test_line_that_is_no_record_is_an_error(line, filled):
    path = records_file(filled)
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(FileFormatError, match=r"_record\.json, line 4: it is not a record"):
        filled.database()


@pytest.mark.parametrize("seconds", [None, [], [None], ["1.0"], 3])
def test_record_without_times_is_an_error(seconds, filled):
    path = records_file(filled)
    workload, (trace, _, target, arguments) = json.loads(path.read_text().splitlines()[0])
    path.write_text(json.dumps([workload, [trace, seconds, target, arguments]]) + "\n")
    with pytest.raises(FileFormatError, match="line 1: it is not a record with its times"):
        filled.database()


@pytest.mark.parametrize("workload", [-1, 7, "a"])
def test_record_that_tvm_refuses_is_an_error(workload, filled):
    path = records_file(filled)
    _, record = json.loads(path.read_text().splitlines()[0])
    path.write_text(json.dumps([workload, record]) + "\n")
    with pytest.raises(FileFormatError, match=r"failed to read tuning log .*TVM cannot read it"):
        filled.database()


def test_record_of_a_formulation_that_is_no_more_is_an_error(filled):
    path = records_file(filled)
    path.write_text(
        re.sub(r"conv3d_transpose:[^:]+:", "conv3d_transpose:winograd-1x8:", path.read_text())
    )
    with pytest.raises(FileFormatError, match=r"formulation winograd-1x8 is none .*tune again"):
        filled.database()


@pytest.mark.parametrize("line", ["no JSON", "{}", "null", '["a", "b"]', "[1, 2]"])
def test_damaged_workload_is_an_error(line, filled):
    (filled.path / "database_workload.json").write_text(f"{line}\n")
    with pytest.raises(FileFormatError, match=r"failed to read tuning log .*TVM cannot read it"):
        filled.database()


def test_another_devices_log_is_refused(filled, host, small, tmp_path):
    other = TuningLog(tmp_path, replace(host, name="cortex-a72"), small)
    other.path.parent.mkdir()
    filled.path.rename(other.path)
    rule = f"failed to use {other.path / 'run.json'} with device '{host.name}'"
    for read in (other.runs, other.database):
        with pytest.raises(SignatureError, match=re.escape(rule)):
            read()


def test_log_of_another_tvm_is_refused(filled):
    change(filled, signature={**signature(), "tvm": "0.26.0"})
    for read in (filled.runs, filled.database):
        with pytest.raises(SignatureError, match=r"0\.26\.0.*; remove .* and tune again"):
            read()


@pytest.mark.parametrize("runs", [{}, [1], [{}], [{"trials": "many"}]])
def test_runs_that_are_none_are_refused(filled, runs):
    change(filled, runs=runs)
    with pytest.raises(
        FileFormatError, match=r"not those of this workload's run; remove .* and tune again"
    ):
        filled.runs()


def test_log_of_another_workload_is_refused(filled):
    change(filled, id="another")
    with pytest.raises(FileFormatError, match="not those of this workload's run"):
        filled.runs()


def test_records_without_their_run_are_refused(filled):
    (filled.path / "run.json").unlink()
    with pytest.raises(FileFormatError, match=r"it has records and no run\.json"):
        filled.database()


@pytest.mark.parametrize("text", ["", "{", '{"schema": 99}'])
def test_damaged_run_is_refused(text, filled):
    (filled.path / "run.json").write_text(text)
    with pytest.raises(FileFormatError):
        filled.runs()


def test_pruned_log_keeps_the_fastest(filled):
    filled.prune(2)
    assert times(filled) == [1.0, 2.0]


def test_pruned_log_keeps_no_definition_after_the_last_that_is_needed(filled):
    definitions = filled.path / "database_workload.json"
    (needed,) = definitions.read_text().splitlines()
    definitions.write_text(f"{needed}\n" * 3)
    filled.prune(2)
    assert definitions.read_text() == f"{needed}\n"
    assert times(filled) == [1.0, 2.0]


def test_pruning_to_more_than_there_are_keeps_all(filled):
    filled.prune(10)
    assert times(filled) == [1.0, 2.0, 3.0]


HOLDER = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_log_that_another_process_writes_is_refused(log):
    with log.writing():
        pass
    command = [sys.executable, "-c", HOLDER, str(log.path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(TuningError, match="another process is tuning this workload"):
            with log.writing():
                pass
        holder.kill()
    # A killed process holds nothing.
    with log.writing():
        pass


def test_folder_that_cannot_be_written_is_an_error(host, small, tmp_path):
    (tmp_path / "file").write_text("")
    log = TuningLog(tmp_path / "file", host, small)
    with pytest.raises(FileWriteError, match=r"failed to write tuning log .*--logs"):
        with log.writing():
            pass


@pytest.mark.parametrize("offered", ["llvm.TILES", "()"], ids=["offered", "no longer offered"])
def test_log_is_read_in_a_process_that_has_made_no_such_schedule(offered, tmp_path):
    """Traces name tensor intrinsics, which a process must know before it reads them."""
    workload = Workload.make(
        (1, 4, 8, 8, 256), (1, 2, 2, 64, 256), (1, 4, 16, 16, 64), (1, 2, 2), dtype="bfloat16"
    )
    device = catalogue.get("x86-64-v4-amx")
    assert schedule.default_schedule(workload, device).formulation.startswith("amx-")
    log = TuningLog(tmp_path, device, workload)
    with log.writing():
        log.write_runs([RUN])
        fill(log, [1.0])
    code = f"""
from pathlib import Path
from tvm_conv3dt import device
from tvm_conv3dt.compiler.search.log import TuningLog
from tvm_conv3dt.compiler.spaces import llvm
from tvm_conv3dt.spec import Workload
llvm.TILES = {offered}
log = TuningLog(Path({str(tmp_path)!r}), device.get("x86-64-v4-amx"), Workload.from_id({workload.id!r}))
print(len(log.database().get_all_tuning_records()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
