"""`bench`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tvm_conv3dt.cli import bench, contestants
from tvm_conv3dt.measure import contest, peers, watch
from tvm_conv3dt.measure.peers import Peer
from tvm_conv3dt.measure.watch import Watch

FAKES = Path(__file__).parents[1] / "measure" / "peers"
OURS = ["tvm_conv3dt", "tvm_conv3dt"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A machine whose ceilings need no measuring, and peers that are not frameworks."""
    monkeypatch.setenv("PYTHONPATH", str(FAKES), prepend=":")
    monkeypatch.setattr(
        contestants, "MACHINE", Peer("fake_peer", arguments=("machine", "bfloat16"))
    )
    monkeypatch.setattr(contest, "_CEILING_SECONDS", 0.001)
    # What is probed there is nothing, which varies: no moment counts as a disturbed one.
    monkeypatch.setattr(watch, "ENOUGH", 0.0)
    for name in ("right", "crash", "wrong"):
        monkeypatch.setitem(peers.PEERS, name, Peer("fake_peer", arguments=(name,)))


def test_json_has_times_and_shares(invoke, bundle):
    result = invoke("bench", bundle, "--seconds", 0.01, "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert [row["name"] for row in figures["rows"]] == ["small/up", "small/odd"]
    first = figures["rows"][0]
    assert [each["output"] for each in first["timings"]] == ["reused", "fresh"]
    timing = first["timings"][0]
    assert 0 < timing["best_ms"] <= timing["median_ms"]
    assert timing["share"] == pytest.approx(first["ceiling_ms"] / timing["median_ms"])
    assert first["workspace_bytes"] <= first["workspace_bound"]


def test_table_has_one_line_per_layer(invoke, bundle):
    result = invoke("bench", bundle, "--seconds", 0.01, "--layer", "small/odd")
    assert result.exit_code == 0, result.output
    assert "small/odd" in result.stdout
    assert "small/up" not in result.stdout
    assert "share of the roofline" in result.stdout


def test_level_that_is_named_is_timed(invoke, levels_bundle, levels, tmp_path):
    arguments = ("--seconds", 0.01, "--layer", "small/up", "--level", levels[1], "-o", tmp_path)
    result = invoke("bench", levels_bundle, *arguments)
    assert result.exit_code == 0, result.output
    title = f"levels, level {levels[1]}, "
    assert result.stdout.startswith(title)
    assert (tmp_path / "bench.md").read_text().startswith(title)
    assert json.loads((tmp_path / "bench.json").read_text())["level"] == levels[1]


def test_disturbed_layers_are_timed_again_after_all_others(invoke, bundle, monkeypatch, tmp_path):
    class Scripted(Watch):
        layers = 0

        def renew(self):  # once for every layer
            Scripted.layers += 1

        def take(self, turn, final=None):
            return turn(), Scripted.layers in (2, 4)

    monkeypatch.setattr(contest, "Watch", Scripted)
    result = invoke("bench", bundle, "--seconds", 0.01, "--passes", 9, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    timed = [line for line in result.stderr.splitlines() if line.startswith("timing")]
    assert timed == [
        "timing small/up",
        "timing small/odd",
        "timing small/up again",
        "timing small/up again",
    ]
    figures = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert [row["disturbed"] for row in figures["rows"]] == [False, False]


def test_peers_that_fail_end_nothing(invoke, bundle, tmp_path):
    arguments = ("--seconds", 0.01, "--against", "crash,right,wrong", "-o", tmp_path / "out")
    result = invoke("bench", bundle, *arguments)
    assert result.exit_code == 0, result.output
    assert "failed: SIGABRT" in result.stdout
    assert "failed: wrong" in result.stdout
    assert "speed-up over the best peer" in result.stdout
    figures = json.loads((tmp_path / "out" / "bench.json").read_text())
    for row in figures["rows"]:
        timed = [each["implementation"] for each in row["timings"]]
        assert timed == [*OURS, "right", "right"]
        assert set(row["failures"]) == {"crash", "wrong"}
    assert "| small/odd |" in (tmp_path / "out" / "bench.md").read_text()


def test_layers_that_are_done_are_kept_where_a_run_is_stopped(
    invoke, bundle, tmp_path, monkeypatch
):
    timed = contest.Contest.layer

    def stopped(self, name, *arguments):
        if name == "small/odd":
            raise KeyboardInterrupt
        return timed(self, name, *arguments)

    monkeypatch.setattr(contest.Contest, "layer", stopped)
    result = invoke("bench", bundle, "--seconds", 0.01, "-o", tmp_path)
    assert result.exit_code == 130
    assert "wrote" in result.stderr
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert [row["name"] for row in figures["rows"]] == ["small/up"]


def test_pictures_are_written(invoke, bundle, tmp_path):
    pytest.importorskip("matplotlib")
    result = invoke("bench", bundle, "--seconds", 0.01, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    for name in ("layers.png", "roofline.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_bundle_beside_is_timed_and_no_peer(invoke, halves_bundle, bundle, tmp_path):
    arguments = ("--seconds", 0.01, "--against", "right", "--beside", bundle, "-o", tmp_path)
    result = invoke("bench", halves_bundle, *arguments)
    assert result.exit_code == 0, result.output
    assert "speed-up over the bundle beside" in result.stdout
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert figures["beside"]["bundle"] == bundle.name
    for row in figures["rows"]:
        assert not row["failures"]
        beside = [each for each in row["timings"] if each["implementation"] == "beside"]
        assert [each["layout"] for each in beside] == ["NDHWC float32"] * 2
        medians = {
            each["implementation"]: each["median_ms"]
            for each in reversed(row["timings"])
            if each["output"] == "reused"
        }
        ours = medians["tvm_conv3dt"]
        assert row["beside_speedup"] == pytest.approx(medians["beside"] / ours)
        peers = [each for each in row["timings"] if each["implementation"] == "right"]
        best = min(each["median_ms"] for each in peers)
        assert row["speedup"] == pytest.approx(best / ours)


def test_layer_that_the_bundle_beside_lacks_is_told(invoke, bundle, tmp_path):
    other = tmp_path / "other"
    layer = "n1_x2x2x2x3_k2x2x2_y4x4x4x5_s2x2x2_d1x1x1_valid_f32_ndhwc"
    built = invoke("build", "--workloads", layer, "-o", other, "--allow-untuned")
    assert built.exit_code == 0, built.output
    result = invoke("bench", bundle, "--seconds", 0.01, "--beside", other, "--json")
    assert result.exit_code == 0, result.output
    for row in json.loads(result.stdout)["rows"]:
        assert row["beside_speedup"] is None
        assert "failed to find workload" in row["failures"]["beside"]["message"]


def test_peak_of_the_matrix_unit_is_the_limit_of_bfloat16(invoke, halves_bundle, tmp_path):
    result = invoke("bench", halves_bundle, "--seconds", 0.01, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert "bfloat16 matrix unit" in result.stdout
    figures = json.loads((tmp_path / "bench.json").read_text())
    # The machine is a fake one, on which either may be the faster.
    limits = {
        "bfloat16 matrix unit": figures["ceilings"]["bfloat16_gflops"],
        "matrix product": figures["ceilings"]["gflops"],
    }
    for row in figures["rows"]:
        assert row["peak_gflops"] == limits[row["peak"]] == max(limits.values())


def test_unknown_peer_is_wrong_usage(invoke, bundle):
    result = invoke("bench", bundle, "--against", "tensorflow,abacus")
    assert result.exit_code == 2
    assert "'abacus' is not one of tensorflow, pytorch" in result.stderr


def test_peer_that_is_not_installed_is_told_before_anything_runs(invoke, bundle, monkeypatch):
    monkeypatch.setitem(peers.PEERS, "absent", Peer("absent", packages=("no_such_package",)))
    result = invoke("bench", bundle, "--against", "absent")
    assert result.exit_code == 3
    assert 'pip install "tvm-conv3dt[peers]"' in result.stderr


def test_stock_tvm_gets_its_folder_and_trials(invoke, bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("TVM_CONV3DT_CACHE", str(tmp_path / "cache"))
    told = Peer("fake_peer", arguments=("to be replaced",))
    monkeypatch.setitem(peers.PEERS, "tvm", told)
    asked = {}

    class Refused(Exception):
        pass

    def contest_of(ours, chosen, *others):
        asked.update(chosen)
        raise Refused

    monkeypatch.setattr(bench, "Contest", contest_of)
    result = invoke("bench", bundle, "--against", "tvm", "--stock-trials", 7)
    assert isinstance(result.exception, Refused)
    assert asked["tvm"].arguments == (str(tmp_path / "cache" / "stock-tvm"), "7")


def test_progress_of_a_slow_peer_is_told_on_stderr(invoke, bundle, monkeypatch):
    monkeypatch.setitem(peers.PEERS, "slow", Peer("fake_peer", arguments=("slow", "0")))
    result = invoke("bench", bundle, "--seconds", 0.01, "--against", "slow", "--json")
    assert result.exit_code == 0, result.output
    assert "slow: step 3" in result.stderr
    assert json.loads(result.stdout)


@pytest.mark.slow
def test_interruption_ends_every_worker(bundle, tmp_path):
    note = tmp_path / "pid"
    program = f"""
from tvm_conv3dt.cli.app import group
from tvm_conv3dt.measure import peers
peers.PEERS["hang"] = peers.Peer("fake_peer", arguments=("hang", {str(note)!r}))
group(["bench", {str(bundle)!r}, "--against", "hang"])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        while not (note.exists() and note.read_text()):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=60)
    assert process.returncode == 130
    assert messages.endswith("stopped\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


@pytest.mark.peers
@pytest.mark.slow
def test_real_peer_is_timed_beside_it(invoke, bundle):
    pytest.importorskip("torch")
    result = invoke("bench", bundle, "--seconds", 0.01, "--against", "pytorch", "--json")
    assert result.exit_code == 0, result.output
    for row in json.loads(result.stdout)["rows"]:
        timed = [(each["implementation"], each["layout"]) for each in row["timings"]]
        assert timed[2:] == [("pytorch", "contiguous"), ("pytorch", "channels_last_3d")]
