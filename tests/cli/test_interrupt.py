"""Stopping `tune` in the middle, through the real entry point."""

import signal
import subprocess
import sys

import pytest

pytest.importorskip("tvm")

pytestmark = pytest.mark.slow

ID = "n1_x3x4x5x6_k2x2x2_y6x8x10x8_s2x2x2_d1x1x1_valid_f32_ndhwc"


@pytest.fixture
def start(tmp_path):
    """Starts `tune` on one small layer, always in the same folder."""

    def start_tune(trials):
        arguments = ["--workloads", ID, "--trials", str(trials)]
        folders = ["--logs", str(tmp_path / "logs"), "--schedules", str(tmp_path / "schedules")]
        return subprocess.Popen(
            [sys.executable, "-m", "tvm_conv3dt", "tune", *arguments, *folders],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start_tune


def records_in(folder):
    return sum(len(path.read_text().splitlines()) for path in folder.rglob("*_tuning_record.json"))


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_stopped_run_goes_on_where_it_was(start, tmp_path, kind):
    with start(1000) as process:
        process.stderr.readline()  # the first trial
        process.send_signal(kind)
        _, messages = process.communicate(timeout=60)
    if kind == signal.SIGINT:
        assert process.returncode == 130
        assert messages.endswith("stopped\n")
        assert "Traceback" not in messages
    before = records_in(tmp_path / "logs")
    with start(before + 1) as process:
        _, messages = process.communicate(timeout=120)
    assert process.returncode == 0, messages
    assert before >= 1
    assert records_in(tmp_path / "logs") == before + 1
