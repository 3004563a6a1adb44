"""A session on a GPU machine, rehearsed without one."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from .conftest import FOLDER

slow = pytest.mark.slow


def start(work, *options, folder=FOLDER):
    return subprocess.Popen(
        [sys.executable, str(folder / "session.py"), "--work", str(work), *map(str, options)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def run(work, *options, **others):
    process = start(work, *options, **others)
    _, messages = process.communicate(timeout=300)
    return process.returncode, messages


def statuses(work):
    summary = json.loads((work / "results" / "summary.json").read_text())
    return {row["step"]: row["status"] for row in summary["steps"]}


REHEARSAL = ("--no-install", "--cpu", "--dtypes", "float32")


@slow
def test_a_session_leaves_logs_schedules_tables_and_pictures(tmp_path):
    pytest.importorskip("tvm")
    limits = ("--time-limit", "1", "--trials", "2", "--bench-seconds", "0.1")
    code, messages = run(tmp_path, *REHEARSAL, *limits)
    assert code == 0, messages
    assert set(statuses(tmp_path).values()) <= {"ok", "skipped"}
    with tarfile.open(tmp_path / "results.tar") as archive:
        held = set(archive.getnames())
    wanted = {"device.json", "session.log", "summary.txt", "tables/verify-float32.txt"}
    wanted |= {f"bench/float32/{name}" for name in ("bench.json", "bench.md", "layers.png")}
    assert {f"results/{name}" for name in wanted} <= held
    for folder in ("tuning_logs", "schedules"):
        assert any(name.startswith(f"results/{folder}/") and ".json" in name for name in held)
    (layer,) = json.loads((tmp_path / "results/tables/verify-float32.json").read_text())["layers"]
    assert layer["status"] == "PASSED"


@slow
def test_a_session_that_is_stopped_keeps_what_it_has(tmp_path):
    pytest.importorskip("tvm")
    with start(tmp_path, *REHEARSAL, "--time-limit", "200", "--trials", "9999") as process:
        deadline = time.monotonic() + 120
        while not any((tmp_path / "results").rglob("*_tuning_record.json")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, messages = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, messages
    assert "stopped by SIGTERM; the same command goes on from here" in messages
    assert statuses(tmp_path)["tune float32, round 1"] == "stopped"
    with tarfile.open(tmp_path / "results.tar") as archive:
        assert any(name.endswith("_tuning_record.json") for name in archive.getnames())


@pytest.fixture
def packed(tmp_path):
    """What pack.py makes, but for what is in it."""
    folder = tmp_path / "pack"
    (folder / "parts").mkdir(parents=True)
    for script in FOLDER.glob("*.py"):
        (folder / script.name).write_bytes(script.read_bytes())
    (folder / "parts" / "pack.tar.000").write_bytes(b"first")
    digest = hashlib.sha256(b"first").hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  parts/pack.tar.000\n")
    return folder


def test_a_damaged_part_is_named(packed, tmp_path):
    (packed / "parts" / "pack.tar.000").write_bytes(b"worst")
    code, messages = run(tmp_path / "work", folder=packed)
    assert code == 3
    assert "part parts/pack.tar.000 is damaged" in messages
    assert statuses(tmp_path / "work") == {"unpack": "failed"}


def test_a_missing_part_is_named(packed, tmp_path):
    (packed / "parts" / "pack.tar.000").unlink()
    code, messages = run(tmp_path / "work", folder=packed)
    assert code == 3
    assert "part parts/pack.tar.000 is missing" in messages


def test_without_parts_it_says_what_to_do(tmp_path):
    code, messages = run(tmp_path)
    assert code == 3
    assert "copy all that pack.py made, or take --no-install in a checkout" in messages


@slow
def test_without_a_gpu_nothing_is_tuned(tmp_path):
    pytest.importorskip("tvm")
    from tvm_conv3dt import cuda_driver
    from tvm_conv3dt.errors import PlatformError

    with contextlib.suppress(PlatformError):
        pytest.skip(f"{cuda_driver.find().gpus[0].name} is there")
    code, messages = run(tmp_path, "--no-install")
    assert code == 3
    assert "there is no GPU to be used" in messages
    assert set(statuses(tmp_path)) <= {"device", "device as JSON", "nvidia-smi"}


@pytest.fixture
def steps(script, tmp_path):
    module = script("steps")
    return module.Steps(tmp_path / "results", dict(os.environ), tmp_path)


def test_a_step_that_fails_does_not_end_the_session(steps):
    assert not steps.run("bad", [sys.executable, "-c", "raise SystemExit(1)"], 60)
    assert steps.run("good", [sys.executable, "-c", "print(5)"], 60, "tables/five.txt")
    assert [row["status"] for row in steps.rows] == ["failed", "ok"]
    assert (steps.results / "tables" / "five.txt").read_text() == "5\n"
    assert "5\n" in (steps.results / "session.log").read_text()


def test_a_command_that_is_not_there_is_a_step_that_failed(steps):
    assert not steps.run("absent", ["/no/such/program"], 60)
    assert "failed to start /no/such/program" in (steps.results / "session.log").read_text()


def test_a_step_that_hangs_is_ended_with_all_that_it_started(steps, tmp_path):
    mark = tmp_path / "child"
    program = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(mark)!r}).write_text(str(child.pid))\n"
        "time.sleep(600)"
    )
    assert not steps.run("hangs", [sys.executable, "-c", program], 5)
    assert steps.rows[0]["status"] == "timeout"
    _wait_until_gone(int(mark.read_text()))


# Knows two layers, and fails where it is to tune "bad", or more than one.
TOOL = """
import json, sys
words = sys.argv[1:]
if words[0] == "show":
    print(json.dumps({"workloads": [{"id": "large", "gflop": 2}, {"id": "bad", "gflop": 1}]}))
elif words[0] in ("tune", "promote"):
    sys.exit(words[words.index("--workloads") + 1] not in ("large",))
"""


def test_a_layer_that_cannot_be_tuned_does_not_keep_the_others_from_it(steps, script, tmp_path):
    tool = tmp_path / "tool.py"
    tool.write_text(TOOL)
    options = script("session")._parser().parse_args(["--dtypes", "float16", "--time-limit", "60"])
    verbs = script("verbs").Verbs(steps, [sys.executable, tool], options, ["suite"], tmp_path)
    verbs.tune()
    found = {row["step"]: row["status"] for row in steps.rows}
    for name in ("tune float16, round 1", "tune float16, round 2", "promote float16"):
        assert found[name] == found[f"{name}, bad"] == "failed"
        assert found[f"{name}, large"] == "ok"
    layers = [row["step"] for row in steps.rows if row["step"].startswith("promote float16, ")]
    assert layers == ["promote float16, bad", "promote float16, large"]


def _wait_until_gone(pid):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} still runs")
