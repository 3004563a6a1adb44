"""`show`."""

import json

from click.testing import CliRunner

from tvm_conv3dt import workload_set
from tvm_conv3dt.cli import app

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


def test_workload_shows_its_arguments_and_sizes():
    shown = json.loads(invoke(ID, "--json").stdout)["workloads"][0]
    assert shown["id"] == ID
    assert shown["output_shape"] == [1, 4, 4, 4, 5]
    assert shown["filters"] == [2, 2, 2, 5, 3]
    assert "NDHWC" in invoke(ID).stdout


def test_record_shows_nested_fields(tmp_path):
    path = tmp_path / "schedule.json"
    path.write_text(
        '{"schema": 1, "device": {"name": "here"}, "trace": ["one", "two"], "note": null}'
    )
    text = invoke(path).stdout
    assert ["device.name", "here"] in [line.split() for line in text.splitlines()]
    assert "one, two" in text
    assert json.loads(invoke(path, "--json").stdout)["trace"] == ["one", "two"]


def test_folder_of_records_shows_each(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(f'{{"schema": 1, "workload": "{name}"}}')
    text = invoke(tmp_path).stdout
    assert str(tmp_path / "a" / "run.json") in text
    assert str(tmp_path / "b" / "run.json") in text


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
