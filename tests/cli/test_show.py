"""`show`."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tvm_conv3dt import cpu, cuda_driver, device, workload_set
from tvm_conv3dt.cli import app
from tvm_conv3dt.cuda_driver import CudaDriver, CudaGpu
from tvm_conv3dt.errors import PlatformError

ID = "n1_x2x2x2x3_k2x2x2_y4x4x4x5_s2x2x2_d1x1x1_valid_f32_ndhwc"


def invoke(*arguments):
    return CliRunner().invoke(app.group, ["show", *map(str, arguments)])


def test_set_is_one_line_per_workload():
    lines = invoke("suite").stdout.splitlines()
    named = workload_set.resolve("suite")
    assert len(lines) == 2 + len(named)
    for line, each in zip(lines[2:], named, strict=True):
        assert line.split()[0] == each.name
        assert line.split()[-1] == each.workload.id


@pytest.mark.parametrize(
    "fields",
    [
        {"decisions": None},
        {"measured": 3},
        {"measured": {"median_ms": "x"}},
    ],
    ids=str,
)
def test_folder_with_a_damaged_schedule_is_refused_by_its_name(tmp_path, fields):
    (tmp_path / "a.json").write_text('{"schema": 1}')
    (tmp_path / "b.json").write_text(json.dumps({"schema": 1, **fields}))
    result = invoke(tmp_path)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"error: failed to show file with {tmp_path / 'b.json'}: ")


@pytest.mark.parametrize("runs", [None, [1], [{"best_ms": "x", "trials": 1}]], ids=str)
def test_folder_with_a_damaged_log_is_refused_by_its_name(tmp_path, runs):
    for name, content in (("a", []), ("b", runs)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"schema": 1, "runs": content}))
    result = invoke(tmp_path)
    assert result.exit_code == 3
    assert f"{tmp_path / 'b' / 'run.json'}: " in result.stderr


def test_text_that_utf8_does_not_hold_is_shown(tmp_path):
    (tmp_path / "a.json").write_text('{"schema": 1, "name": "\\ud800"}')
    command = [sys.executable, "-m", "tvm_conv3dt", "show", str(tmp_path / "a.json"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["name"] == "\ud800"


def test_workload_shows_its_arguments_and_sizes():
    shown = json.loads(invoke(ID, "--json").stdout)["workloads"][0]
    assert shown["id"] == ID
    assert shown["output_shape"] == [1, 4, 4, 4, 5]
    assert shown["filters"] == [2, 2, 2, 5, 3]
    assert "NDHWC" in invoke(ID).stdout


def test_record_shows_nested_fields(tmp_path):
    path = tmp_path / "schedule.json"
    path.write_text(
        '{"schema": 1, "device": {"name": "here"}, "trace": ["one", "two"], "note": null, '
        '"runs": [{"seed": 7}, {"seed": 8}]}'
    )
    text = invoke(path).stdout
    assert ["device.name", "here"] in [line.split() for line in text.splitlines()]
    assert "one, two" in text
    assert ["runs.2.seed", "8"] in [line.split() for line in text.splitlines()]
    assert json.loads(invoke(path, "--json").stdout)["trace"] == ["one", "two"]


def write(path, text):
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_folder_of_logs_is_one_line_each(tmp_path):
    for name, best in (("a", 1.5), ("b", "null")):
        run = f'{{"trials": 3, "failures": {{"wrong": 1}}, "seconds": 9.4, "best_ms": {best}}}'
        text = f'{{"schema": 1, "device": "here", "id": "{name}", "runs": [{run}]}}'
        write(tmp_path / "here" / name / "run.json", text)
    lines = [line.split() for line in invoke(tmp_path).stdout.splitlines()]
    assert lines[1:] == [
        ["here", "1", "3", "1", "9", "1.500", "a"],
        ["here", "1", "3", "1", "9", "b"],
    ]
    assert [log["id"] for log in json.loads(invoke(tmp_path, "--json").stdout)["logs"]] == [
        "a",
        "b",
    ]


def test_folder_of_schedules_is_one_line_each(tmp_path):
    for name in ("a", "b"):
        measured = '{"median_ms": 1.5, "default_median_ms": 3, "gflops": 7.5}'
        text = f'{{"schema": 1, "device": "here", "id": "{name}", "decisions": {{"tile_w": 4}}, '
        write(tmp_path / name / f"{name}.json", text + f'"measured": {measured}}}')
    lines = [line.split() for line in invoke(tmp_path).stdout.splitlines()]
    assert lines[1:] == [["here", "3.000", "1.500", "7.5", "tile_w=4", name] for name in ("a", "b")]


@pytest.fixture
def fits(monkeypatch):
    """Makes a machine that has what some levels need."""

    def only(*names):
        features = {each for name in names for each in device.get(name).cpu_features}
        monkeypatch.setattr(cpu, "features", lambda: frozenset(features))

    return only


def on_this_machine(folder, levels):
    lines = [line.split() for line in invoke(folder).stdout.splitlines()]
    return [line[2 + len(needs(line[0])) :] for line in lines if line and line[0] in levels]


def needs(level):
    return device.get(level).cpu_features


def test_bundle_shows_which_level_is_in_use(levels_bundle, levels, fits):
    fits(*levels)
    assert on_this_machine(levels_bundle, levels) == [["in", "use"], ["runs"]]
    assert json.loads(invoke(levels_bundle, "--json").stdout)["level"] == levels[0]


def test_bundle_shows_what_a_level_lacks(levels_bundle, levels, fits):
    fits(levels[1])
    lacks = ["lacks", *sorted(set(needs(levels[0])) - set(needs(levels[1])))]
    assert on_this_machine(levels_bundle, levels) == [lacks, ["in", "use"]]
    assert json.loads(invoke(levels_bundle, "--json").stdout)["level"] == levels[1]


def test_bundle_that_does_not_run_here_is_shown_all_the_same(levels_bundle, levels, fits):
    fits(*levels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "architecture", lambda: "abacus")
        assert on_this_machine(levels_bundle, levels) == [["does", "not", "run"]] * 2
        assert json.loads(invoke(levels_bundle, "--json").stdout)["level"] is None


def test_bundle_shows_every_layer_on_every_level(levels_bundle, levels):
    lines = [line.split() for line in invoke(levels_bundle).stdout.splitlines()]
    shown = [tuple(line[:3]) for line in lines if line and line[0].startswith("small/")]
    names = ("small/up", "small/odd")
    assert shown == [(name, level, "default") for level in levels for name in names]


def test_bundle_as_json_is_its_manifest_and_the_level(levels_bundle):
    shown = json.loads(invoke(levels_bundle, "--json").stdout)
    shown.pop("level")
    assert shown == json.loads((levels_bundle / "manifest.json").read_text())


def test_unknown_name_is_wrong_usage():
    result = invoke("frobnicate")
    assert result.exit_code == 2
    assert "tvm-conv3dt show suite" in result.stderr


def test_empty_folder_is_refused(tmp_path):
    result = invoke(tmp_path)
    assert result.exit_code == 3
    assert "it holds no manifest.json" in result.stderr


def test_damaged_record_is_refused(tmp_path):
    path = tmp_path / "schedule.json"
    path.write_text('{"schema": 1,')
    result = invoke(path)
    assert result.exit_code == 3
    assert "it is not valid JSON" in result.stderr


def test_record_of_another_schema_is_refused(tmp_path):
    path = tmp_path / "schedule.json"
    path.write_text('{"schema": 99}')
    assert "its schema is 99" in invoke(path).stderr


@pytest.fixture
def gpu(monkeypatch):
    """A function that makes this a machine with a GPU of that compute capability."""

    def has(*capability):
        found = CudaDriver((13, 0), (CudaGpu("Tester", capability),))
        monkeypatch.setattr(cuda_driver, "find", lambda: found)

    return has


def words(folder):
    return [line.split() for line in invoke(folder).stdout.splitlines()]


def test_bundle_for_gpus_shows_the_cuda_that_it_needs(gpu_bundle, gpu):
    gpu(9, 0)
    shown = words(gpu_bundle)
    assert ["cuda", "kernels", "of", "CUDA", "13.0,", "needs", "libcudart.so.13"] in shown
    assert ["cuda-sm_90", "generic", "sm_90", "in", "use"] in shown
    assert ["cuda-sm_87", "generic", "sm_87", "runs"] in shown


def test_bundle_for_gpus_shows_what_a_level_lacks(gpu_bundle, gpu):
    gpu(8, 7)
    lacks = ["lacks", "compute", "capability", "9.0"]
    assert ["cuda-sm_90", "generic", "sm_90", *lacks] in words(gpu_bundle)
    assert json.loads(invoke(gpu_bundle, "--json").stdout)["level"] == "cuda-sm_87"


def test_bundle_for_gpus_shows_what_its_functions_take(gpu_bundle, gpu):
    gpu(9, 0)
    shown = words(gpu_bundle)
    heading = shown.index(
        "layer level function threads registers shared KiB spill bytes stack bytes".split()
    )
    assert shown[heading + 1 :] == [
        ["up", level, *function]
        for level in ("cuda-sm_90", "cuda-sm_87")
        for function in (
            ["run_kernel", "256", "128", "48.0", "0", "0"],
            ["pack_kernel", "64", "16", "0.0", "12", "16"],
        )
    ]


def test_bundle_for_gpus_is_shown_where_there_is_none(gpu_bundle, monkeypatch):
    def find():
        raise PlatformError("failed to find GPU with tests: there is no driver")

    monkeypatch.setattr(cuda_driver, "find", find)
    result = invoke(gpu_bundle)
    assert result.exit_code == 0
    assert "failed to find GPU with tests: there is no driver" in result.stdout
    assert ["cuda-sm_90", "generic", "sm_90", "does", "not", "run"] in words(gpu_bundle)
    assert json.loads(invoke(gpu_bundle, "--json").stdout)["level"] is None


def test_manifest_is_shown_as_its_bundle(bundle):
    assert invoke(bundle / "manifest.json").stdout == invoke(bundle).stdout


def test_folder_of_schedules_may_hold_results_and_bundles_too(tmp_path):
    write(tmp_path / "a" / "a.json", '{"schema": 1, "id": "a"}')
    for name in ("b/manifest.json", "c/bench.json"):
        write(tmp_path / name, '{"schema": 3}')
    assert json.loads(invoke(tmp_path, "--json").stdout)["id"] == "a"
