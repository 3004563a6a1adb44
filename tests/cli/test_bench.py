"""`bench`."""

import json

import pytest

from tvm_conv3dt.measure import ceiling
from tvm_conv3dt.measure.ceiling import Ceilings


@pytest.fixture(autouse=True)
def ceilings(monkeypatch):
    monkeypatch.setattr(ceiling, "measure", lambda threads: Ceilings(100.0, 10.0, threads or 2))


def test_json_has_times_and_shares(invoke, bundle):
    result = invoke("bench", bundle, "--seconds", 0.01, "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert [row["name"] for row in figures["rows"]] == ["small/up", "small/odd"]
    timing = figures["rows"][0]["timings"]["tvm_conv3dt"]
    assert 0 < timing["best_ms"] <= timing["median_ms"]
    assert timing["share"] == pytest.approx(figures["rows"][0]["ceiling_ms"] / timing["median_ms"])


def test_table_has_one_line_per_layer(invoke, bundle):
    result = invoke("bench", bundle, "--seconds", 0.01, "--layer", "small/odd")
    assert result.exit_code == 0, result.output
    assert "small/odd" in result.stdout
    assert "small/up" not in result.stdout
    assert "100 GFLOP/s" in result.stdout


def test_picture_is_a_png(invoke, bundle, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "bench.png"
    result = invoke("bench", bundle, "--seconds", 0.01, "--picture", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_unknown_peer_is_wrong_usage(invoke, bundle):
    result = invoke("bench", bundle, "--peer", "abacus")
    assert result.exit_code == 2
    assert "tensorflow" in result.stderr


@pytest.mark.oracle
def test_peer_is_timed_beside_it(invoke, bundle):
    pytest.importorskip("tensorflow")
    result = invoke("bench", bundle, "--seconds", 0.01, "--peer", "tensorflow", "--json")
    assert result.exit_code == 0, result.output
    for row in json.loads(result.stdout)["rows"]:
        assert set(row["timings"]) == {"tvm_conv3dt", "tensorflow"}
