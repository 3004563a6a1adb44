"""`tune` and `promote`: what they hand to the compiler, and what they report."""

import json

import pytest
from click.testing import CliRunner

from tvm_conv3dt import workload_set
from tvm_conv3dt.cli import app

pytest.importorskip("tvm")

from tvm_conv3dt.compiler import promote as promoting
from tvm_conv3dt.compiler import tuning
from tvm_conv3dt.compiler.promote import Promotion
from tvm_conv3dt.compiler.schedule import Measurement, Schedule

NAMED = workload_set.resolve("nnunet/up1")[0]


def promotion(folder):
    measured = Measurement(
        median_ms=1.5,
        q1_ms=1.25,
        q3_ms=2.0,
        default_median_ms=3.0,
        gflops=70.0,
        threads=2,
        processor="a CPU",
    )
    schedule = Schedule(
        workload=NAMED.workload,
        device="here",
        source="tuned",
        formulation="phases",
        decisions={"order": "rows"},
        trace=[[], []],
        measurement=measured,
        verification={},
        origin={},
    )
    return Promotion(NAMED.name, schedule, folder / "here" / "file.json")


@pytest.fixture
def tuner(monkeypatch):
    calls = []

    def tune(named, device, *, on_progress, on_note, **settings):
        calls.append(([each.name for each in named], device.name, settings))
        for trial, best in [(1, 3.0), (2, 3.0), (3, 1.5)]:
            failure = "wrong" if trial == 2 else None
            found = None if failure else best
            on_progress(tuning.Progress(NAMED.name, 0, 1, trial, 3, found, failure, best))
        return [promotion(settings["schedules"])]

    monkeypatch.setattr(tuning, "tune", tune)
    return calls


def invoke(*arguments):
    return CliRunner().invoke(app.group, [str(word) for word in arguments])


def test_tune_hands_its_options_on(tuner, tmp_path):
    result = invoke(
        *("tune", "--device", "x86-64-v3", "--workloads", "nnunet/up1", "nnunet/up3"),
        *("--trials", 3, "--time-limit", 9.5, "--seed", 4, "--threads", 2),
        *("--logs", tmp_path / "logs", "--schedules", tmp_path / "schedules"),
    )
    assert result.exit_code == 0, result.output
    ((names, device, settings),) = tuner
    assert names == ["nnunet/up1", "nnunet/up3"]
    assert device == "x86-64-v3"
    assert settings == {
        "trials": 3,
        "time_limit": 9.5,
        "seed": 4,
        "threads": 2,
        "fleet": None,
        "logs": tmp_path / "logs",
        "schedules": tmp_path / "schedules",
    }


@pytest.mark.parametrize("verb", ["tune", "promote"])
def test_workloads_are_recast(verb, monkeypatch, tmp_path):
    seen = []

    def take(named, device, **settings):
        seen.extend(each.workload for each in named)
        return []

    monkeypatch.setattr(tuning if verb == "tune" else promoting, verb, take)
    words = ("--data-format", "NCDHW", "--precision", "bfloat16", "--schedules", tmp_path)
    result = invoke(verb, "--workloads", "nnunet/up1", *words)
    assert result.exit_code == 0, result.output
    assert seen == [NAMED.workload.recast("NCDHW", precision="bfloat16")]


def test_tune_writes_data_to_stdout_and_progress_to_stderr(tuner, tmp_path):
    result = invoke("tune", "--workloads", "nnunet/up1", "--json", "--schedules", tmp_path)
    (promoted,) = json.loads(result.stdout)["promoted"]
    assert promoted["id"] == NAMED.workload.id
    assert promoted["measured"]["median_ms"] == 1.5
    lines = result.stderr.splitlines()
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
    assert "wrong" in lines[1]
    assert "best 1.500 ms" in lines[2]
    assert "0:00 left" in lines[2]


def test_tune_ends_in_a_table(tuner, tmp_path):
    lines = invoke("tune", "--workloads", "nnunet/up1", "--schedules", tmp_path).stdout.splitlines()
    assert lines[1].split()[:4] == ["nnunet/up1", "3.000", "1.500", "70.0"]


@pytest.mark.parametrize("option", [("--trials", "0"), ("--time-limit", "0"), ("--seed", "-1")])
def test_tune_refuses_values_that_mean_nothing(option):
    assert invoke("tune", "--workloads", "nnunet/up1", *option).exit_code == 2


def test_promote_hands_its_options_on(monkeypatch, tmp_path):
    calls = []

    def promote(named, device, *, on_note, **settings):
        calls.append(([each.name for each in named], settings))
        return [promotion(settings["schedules"])]

    monkeypatch.setattr(promoting, "promote", promote)
    result = invoke(
        *("promote", "--workloads", "nnunet/up1", "--top", 5, "--keep", 8, "--json"),
        *("--logs", tmp_path / "logs", "--schedules", tmp_path / "schedules"),
    )
    assert calls == [
        (
            ["nnunet/up1"],
            {
                "logs": tmp_path / "logs",
                "schedules": tmp_path / "schedules",
                "top": 5,
                "threads": None,
                "keep": 8,
                "fleet": None,
            },
        )
    ]
    assert json.loads(result.stdout)["promoted"][0]["file"].endswith("file.json")


def test_promote_without_a_log_says_how_to_make_one(tmp_path):
    result = invoke("promote", "--workloads", "nnunet/up1", "--logs", tmp_path)
    assert result.exit_code == 1
    assert "tvm-conv3dt tune --device" in result.stderr


@pytest.mark.parametrize("seed", ["-1", str(2**32)])
def test_seed_that_numpy_does_not_take_is_wrong_usage(seed):
    result = CliRunner().invoke(app.group, ["tune", "--workloads", "demo", "--seed", seed])
    assert result.exit_code == 2
    assert "is not in the range 0<=x<=4294967295" in result.stderr
