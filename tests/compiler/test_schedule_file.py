"""Does a schedule survive its file, and is one that does not belong here refused?"""

import json
import re
from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import definition, schedule, schedule_file
from tvm_conv3dt.compiler.schedule import Measurement
from tvm_conv3dt.compiler.signature import signature
from tvm_conv3dt.compiler.spaces import llvm
from tvm_conv3dt.compiler.spaces.llvm import layout_of
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.errors import FileFormatError, SignatureError

from .geometries import evenly

MEASURED = Measurement(
    median_ms=1.5,
    q1_ms=1.25,
    q3_ms=2.0,
    default_median_ms=None,
    gflops=7.5,
    threads=2,
    processor="a CPU",
)


@pytest.fixture(scope="module")
def tuned(host, small):
    default = schedule.default_schedule(small, host)
    return replace(
        default,
        source="tuned",
        measurement=MEASURED,
        verification={"integers": "equal to the reference"},
        origin={"trials": 4, "seed": 1, "tuned": "2026-01-01T00:00:00+00:00"},
    )


@pytest.fixture
def written(tuned, tmp_path):
    return schedule_file.write(tuned, tmp_path)


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_schedule_is_read_as_it_was_written(tuned, written):
    assert schedule_file.read(written, tuned.device) == tuned


def test_default_point_is_written_without_a_measurement(host, small, tmp_path):
    default = schedule.default_schedule(small, host)
    found = schedule_file.read(schedule_file.write(default, tmp_path), host.name)
    assert found == default
    assert found.measurement is None


def test_file_is_named_by_device_and_workload(tuned, written, tmp_path):
    assert written == tmp_path / tuned.device / f"{tuned.workload.id}.json"


def test_every_instruction_of_the_trace_has_a_line(tuned, written):
    lines = [line.strip().rstrip(",") for line in written.read_text().splitlines()]
    instructions = [json.dumps(each) for each in tuned.trace[0]]
    assert lines[lines.index('"instructions": [') + 1 :][: len(instructions)] == instructions


def test_read_schedule_gives_the_same_program(tuned, written, host):
    found = schedule_file.read(written, tuned.device).apply(host)
    assert str(found.mod) == str(tuned.apply(host).mod)


def test_another_tvm_is_refused(tuned, written):
    change(written, signature={"tvm": "0.26.0", "definition": definition.VERSION})
    with pytest.raises(
        SignatureError,
        match=r"'tvm': '0\.26\.0'.*renew it: tvm-conv3dt tune --device .* --workloads n1_",
    ):
        schedule_file.read(written, tuned.device)


def test_another_definition_is_refused(tuned, written):
    change(written, signature={**signature(), "definition": definition.VERSION + 1})
    with pytest.raises(SignatureError, match=f"this installation has .*{definition.VERSION}"):
        schedule_file.read(written, tuned.device)


@pytest.mark.parametrize("found", [None, {}, "0.27", [1]])
def test_a_signature_that_is_none_is_refused(found, tuned, written):
    change(written, signature=found)
    with pytest.raises(SignatureError, match="signature"):
        schedule_file.read(written, tuned.device)


def test_another_device_is_refused(tuned, written, tmp_path):
    moved = tmp_path / "cortex-a72" / written.name
    moved.parent.mkdir()
    written.rename(moved)
    with pytest.raises(SignatureError, match="it is in the folder of device cortex-a72"):
        schedule_file.read(moved, "cortex-a72")


def test_renamed_file_is_refused(tuned, written):
    other = written.with_name("other.json")
    written.rename(other)
    rule = f"it holds the workload {tuned.workload.id}; rename it"
    with pytest.raises(FileFormatError, match=re.escape(rule)):
        schedule_file.read(other, tuned.device)


def test_truncated_file_is_refused(tuned, written):
    written.write_text(written.read_text()[:200])
    with pytest.raises(FileFormatError, match="not valid JSON"):
        schedule_file.read(written, tuned.device)


@pytest.mark.parametrize(
    "changes",
    [
        {"workload": {"input": [1]}},
        {"measured": {"median_ms": 1}},
        {"measured": 3},
        {"source": 5},
        {"formulation": 3},
        {"trace": {}},
        {"trace": None},
        {"decisions": 1},
        {"origin": None},
        {"verified": "yes"},
        {"digest": None},
    ],
    ids=str,
)
def test_field_that_is_no_schedules_is_refused(changes, tuned, written):
    change(written, **changes)
    with pytest.raises(FileFormatError, match="its fields are not those of a schedule"):
        schedule_file.read(written, tuned.device)


@pytest.mark.parametrize(
    "edit",
    [
        lambda values: values["trace"]["instructions"].pop(),
        lambda values: values["trace"]["decisions"].append([0, 1]),
        lambda values: values.update(formulation="phases-2"),
        lambda values: values["decisions"].update(unroll=999),
        lambda values: values.update(digest="0" * 64),
    ],
    ids=["instruction", "decision", "formulation", "value", "digest"],
)
def test_what_decides_the_code_cannot_be_edited(edit, tuned, written):
    values = json.loads(written.read_text())
    edit(values)
    change(written, **values)
    with pytest.raises(FileFormatError, match=r"not those that were written.*promote again"):
        schedule_file.read(written, tuned.device)


def test_schedule_of_an_earlier_schema_is_refused(tuned, written):
    change(written, schema=1)
    with pytest.raises(FileFormatError, match="1"):
        schedule_file.read(written, tuned.device)


def test_explicit_padding_goes_there_and_back(host, small, tmp_path):
    workload = replace(small, output_shape=(1, 4, 3, 9, 9), padding=(1, 0, 2))
    default = schedule.default_schedule(workload, host)
    assert schedule_file.read(schedule_file.write(default, tmp_path), host.name) == default


@pytest.mark.parametrize("padding", [[1, 0], [1, 0, -1], [1, 0, 2.0], 1, None])
def test_padding_that_is_none_is_refused(padding, tuned, written):
    change(written, workload={**tuned.workload.to_dict(), "padding": padding})
    with pytest.raises(FileFormatError, match=r"not those of a schedule: .* with padding="):
        schedule_file.read(written, tuned.device)


def test_missing_field_is_named(tuned, written):
    values = json.loads(written.read_text())
    del values["trace"]
    written.write_text(json.dumps(values))
    with pytest.raises(FileFormatError, match="trace"):
        schedule_file.read(written, tuned.device)


def test_nothing_is_found_in_empty_or_absent_folders(host, small, tmp_path):
    assert schedule_file.find(small, host, [tmp_path, tmp_path / "absent"]) is None


def test_nearest_folder_comes_first(tuned, host, tmp_path):
    schedule_file.write(replace(tuned, origin={"trials": 1}), tmp_path / "far")
    schedule_file.write(replace(tuned, origin={"trials": 2}), tmp_path / "near")
    found = schedule_file.find(tuned.workload, host, [tmp_path / "near", tmp_path / "far"])
    assert found.origin == {"trials": 2}


def test_fallbacks_are_looked_for_in_their_order(tuned, host, tmp_path):
    device = replace(host, name="mine", fallback=("first", "second"))
    for name in ("second", "first", "unrelated"):
        schedule_file.write(replace(tuned, device=name), tmp_path)
    assert schedule_file.find(tuned.workload, device, [tmp_path]).device == "first"


def test_own_schedule_far_away_goes_before_a_fallback_nearby(tuned, host, tmp_path):
    device = replace(host, name="mine", fallback=("first",))
    schedule_file.write(replace(tuned, device="first"), tmp_path / "near")
    schedule_file.write(replace(tuned, device="mine"), tmp_path / "far")
    found = schedule_file.find(tuned.workload, device, [tmp_path / "near", tmp_path / "far"])
    assert found.device == "mine"


def test_device_that_is_no_fallback_does_not_serve(tuned, host, tmp_path):
    schedule_file.write(tuned, tmp_path)
    device = replace(host, name="mine", fallback=())
    assert schedule_file.find(tuned.workload, device, [tmp_path]) is None


@pytest.mark.parametrize(
    ("name", "formulation", "change"),
    [
        ("x86-64-v3", "phases", {}),
        ("x86-64-v3", "dot", {"data_format": "NCDHW"}),
        ("x86-64-v4-amx", "amx-split-", {}),
        ("x86-64-v4-amx", "amx-2x1-", {"dtype": "bfloat16"}),
        ("x86-64-v4-amx", "amx-taps-", {"dtype": "bfloat16"}),
        ("neoverse-n2", "mmla-", {"dtype": "bfloat16"}),
    ],
)
def test_default_point_stands_in_where_copies_are_too_large_with_these_cores(
    name, formulation, change, tmp_path
):
    channels = (256, 1 if formulation in ("dot", "amx-taps-") else 16)
    workload = evenly(channels, width=100).recast(**change)
    one, four = (replace(catalogue.get(name), cores=each) for each in (1, 4))

    def small(point, device):
        return llvm.within_bounds(layout_of(workload, device, point.formulation), device, point)

    found = (p for p in llvm.points(workload, one) if p.formulation.startswith(formulation))
    point = next(p for p in found if small(p, one) and not small(p, four))
    its = schedule.point_schedule(workload, one, point)
    schedule_file.write(its, tmp_path)
    assert schedule_file.find(workload, one, [tmp_path]) == its
    other = schedule_file.find(workload, four, [tmp_path])
    assert other == schedule.default_schedule(workload, four)
    assert small(Point(**other.decisions), four)


def test_stale_schedule_is_an_error_and_not_passed_over(tuned, written, host, tmp_path):
    change(written, signature={"tvm": "0.26.0", "definition": definition.VERSION})
    with pytest.raises(SignatureError):
        schedule_file.find(tuned.workload, host, [tmp_path])


def test_formulation_of_another_version_is_told(tuned, host, tmp_path):
    written = schedule_file.write(replace(tuned, formulation="amx-9"), tmp_path)
    with pytest.raises(FileFormatError, match=r"its formulation amx-9 .* promote again"):
        schedule_file.find(tuned.workload, replace(host, name=tuned.device), [written.parents[1]])
