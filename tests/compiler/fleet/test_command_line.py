"""Tuning on boards through the real entry point: shown, stopped in the middle, and gone on with."""

import json
import signal
import subprocess
import sys

import pytest

pytest.importorskip("tvm")
pytest.importorskip("xgboost")
pytest.importorskip("tornado")

from .loopback import KEY

pytestmark = pytest.mark.slow

ID = "n1_x3x4x5x6_k2x2x2_y6x8x10x8_s2x2x2_d1x1x1_valid_f32_ndhwc"


def command(*words):
    return [sys.executable, "-m", "tvm_conv3dt", *map(str, words)]


def records_in(folder):
    return sum(len(path.read_text().splitlines()) for path in folder.rglob("*_tuning_record.json"))


def test_stopped_run_on_a_fleet_ends_at_once_and_goes_on(fleet, tmp_path):
    fleet.add(), fleet.add()
    fleet.wait_for(2)
    shown = subprocess.run(
        command("device", "--tracker", fleet.address, "--json"), capture_output=True, check=True
    )
    (key,) = json.loads(shown.stdout)["keys"]
    boards = sorted(f"127.0.0.1:{port}" for port in fleet.boards)
    assert key == {"key": KEY, "boards": boards, "free": 2, "busy": 0, "waiting": 0}

    def tune(trials):
        where = ("--runner", "rpc", "--tracker", fleet.address, "--key", KEY, "--wait", 60)
        folders = ("--logs", tmp_path / "logs", "--schedules", tmp_path / "schedules")
        return subprocess.Popen(
            command("tune", "--workloads", ID, "--trials", trials, *where, *folders, "--json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    with tune(1000) as process:
        process.stderr.readline()  # the first trial
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=60)
    assert process.returncode == 130, messages
    assert messages.endswith("stopped\n")
    assert "Traceback" not in messages
    before = records_in(tmp_path / "logs")
    assert before >= 1
    # The boards are free again, and the log is whole.
    with tune(before + 1) as process:
        out, messages = process.communicate(timeout=120)
    assert process.returncode == 0, messages
    assert records_in(tmp_path / "logs") == before + 1
    (promoted,) = json.loads(out)["promoted"]
    assert promoted["id"] == ID


def test_address_that_is_no_address_of_this_machine_is_told():
    words = ("serve", "--tracker", "127.0.0.1:9", "--key", KEY, "--host", "203.0.113.1")
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "error: failed to listen for sessions with 203.0.113.1:9090: " in done.stderr
    assert done.stderr.endswith("; see to --host and --port\n")
