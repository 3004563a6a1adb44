"""`demo`: the whole way, through the real entry point."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("tvm")


@pytest.mark.slow
def test_demo_tunes_builds_verifies_times_and_draws(small_set, tmp_path):
    arguments = ["--workloads", str(small_set), "--time-limit", "4", "--output", "out", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "tvm_conv3dt", "demo", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert {row["name"] for row in rows} == {"small/up", "small/odd"}
    for row in rows:
        assert set(row["timings"]) == {"untuned", "tuned"}
    out = tmp_path / "out"
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")
    manifest = json.loads((out / "tuned" / "manifest.json").read_text())
    (level,) = manifest["levels"]
    assert len(level["kernels"]) == len(manifest["layers"])
    assert all(kernel["schedule"]["median_ms"] > 0 for kernel in level["kernels"])
    assert len(list((out / "schedules").rglob("*.json"))) == 2
    assert len(list((out / "tuning_logs").rglob("run.json"))) == 2
