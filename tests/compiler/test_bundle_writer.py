"""Is a bundle written whole or not at all, and never over something else?"""

import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from tvm_conv3dt import cpu, runtime
from tvm_conv3dt.compiler import bundle_writer, kernel, schedule, schedule_file
from tvm_conv3dt.compiler.bundle_writer import build_bundle
from tvm_conv3dt.errors import (
    CompileError,
    FileWriteError,
    SignatureError,
    WorkloadNotFoundError,
)
from tvm_conv3dt.files import sha256
from tvm_conv3dt.manifest import Manifest, Platform
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload


@pytest.fixture(scope="module")
def named(small):
    return [NamedWorkload("net/up", small)]


@pytest.fixture(scope="module")
def built(named, host, tmp_path_factory):
    """A bundle of the default point, to be read only."""
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    build_bundle(named, [host], folder, schedules=[], allow_untuned=True)
    return folder


def build(named, device, output):
    return build_bundle(named, [device], output, schedules=[], allow_untuned=True)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_built_bundle_runs(built, small):
    x, filters, _ = integer_data(small, seed=0)
    op = runtime.load(built).operator("net/up", filters)
    assert np.array_equal(op(x), reference(small, x, filters))


def test_manifest_says_what_was_built(built, small, host):
    manifest = Manifest.read(built)
    (layer,), (level,) = manifest.layers, manifest.levels
    assert (manifest.tvm, level.device, level.mcpu) == (tvm.__version__, host.name, host.mcpu)
    assert manifest.platform == Platform("llvm", "linux", cpu.architecture())
    assert level.cpu_features == host.cpu_features
    (built_kernel,) = level.kernels
    assert (layer.name, layer.workload, built_kernel.layer) == ("net/up", small, "net/up")
    assert built_kernel.schedule.source == "default"
    assert built_kernel.library.file == f"{small.id}.{host.name}.so"
    assert built_kernel.library.sha256 == sha256(built / built_kernel.library.file)
    expected = kernel_of(small, host)
    assert built_kernel.workspace_bytes == expected.workspace_bytes
    assert built_kernel.packed_shape == expected.packed_shape


def kernel_of(workload, device):
    default = schedule.default_schedule(workload, device)
    return kernel.compile_kernel(default.layout(device), device, default.apply(device))


def test_runtime_library_and_licences_are_tvms_own(built):
    package = Path(tvm.__file__).parent
    found = contents(built)
    assert found["libtvm_runtime.so"] == (package / "lib" / "libtvm_runtime.so").read_bytes()
    assert found["LICENSE.tvm"] == (package / "LICENSE").read_bytes()
    assert found["NOTICE.tvm"] == (package / "NOTICE").read_bytes()


def test_same_build_gives_the_same_bytes(built, named, host, tmp_path):
    build(named, host, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(built)


def test_schedule_is_used_where_there_is_one(named, host, small, tmp_path):
    default = schedule.default_schedule(small, host)
    measured = schedule.Measurement(1.5, 1.0, 2.0, 3.0, 4.0, 2, "a CPU")
    tuned = replace(default, source="tuned", measurement=measured)
    schedule_file.write(tuned, tmp_path / "schedules")
    manifest = build_bundle(named, [host], tmp_path / "out", schedules=[tmp_path / "schedules"])
    summary = manifest.levels[0].kernels[0].schedule
    assert (summary.source, summary.median_ms) == ("tuned", 1.5)


def test_two_names_of_one_workload_both_load(small, host, tmp_path):
    build([NamedWorkload("a", small), NamedWorkload("b", small)], host, tmp_path / "out")
    bundle = runtime.load(tmp_path / "out")
    filters = np.ones(small.filters, np.float32)
    assert [bundle.operator(name, filters).name for name in ("a", "b")] == ["a", "b"]


def test_name_that_is_given_twice_is_built_once(named, host, tmp_path):
    build([*named, *named], host, tmp_path / "out")
    assert list(runtime.load(tmp_path / "out").workloads) == ["net/up"]


def test_folder_can_be_read_by_others(built):
    assert stat.S_IMODE(built.stat().st_mode) == 0o755


def test_progress_names_each_workload_and_device(named, host, tmp_path):
    names = []
    build_bundle(
        named, [host], tmp_path / "out", schedules=[], allow_untuned=True, on_progress=names.append
    )
    assert names == [f"net/up for {host.name}"]


def test_workload_without_a_schedule_is_refused(named, host, tmp_path):
    with pytest.raises(WorkloadNotFoundError, match=r"net/up.*tune it: .*--allow-untuned"):
        build_bundle(named, [host], tmp_path / "out", schedules=[tmp_path])
    assert list(tmp_path.iterdir()) == []


def test_stale_schedule_is_refused_also_where_untuned_is_allowed(named, host, small, tmp_path):
    path = schedule_file.write(schedule.default_schedule(small, host), tmp_path / "schedules")
    path.write_text(path.read_text().replace(tvm.__version__, "0.26.0"))
    with pytest.raises(SignatureError, match=r"0\.26\.0"):
        build_bundle(
            named, [host], tmp_path / "out", schedules=[tmp_path / "schedules"], allow_untuned=True
        )
    assert not (tmp_path / "out").exists()


def failing_compile(monkeypatch, error):
    def compile_kernel(*_):
        raise error

    monkeypatch.setattr(bundle_writer.kernel, "compile_kernel", compile_kernel)


@pytest.mark.parametrize("error", [CompileError("failed to compile"), KeyboardInterrupt()])
def test_failed_build_leaves_the_old_bundle(error, named, host, tmp_path, monkeypatch):
    output = tmp_path / "out"
    build(named, host, output)
    before = contents(output)
    failing_compile(monkeypatch, error)
    with pytest.raises(type(error)):
        build(named, host, output)
    assert contents(output) == before
    assert list(tmp_path.iterdir()) == [output]


def test_failed_first_build_leaves_nothing(named, host, tmp_path, monkeypatch):
    failing_compile(monkeypatch, CompileError("failed to compile"))
    with pytest.raises(CompileError):
        build(named, host, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_old_bundle_returns_where_the_new_one_cannot_be_placed(named, host, tmp_path, monkeypatch):
    output = tmp_path / "out"
    build(named, host, output)
    before = contents(output)
    rename = Path.rename

    def refuse(self, target):
        if target == output and self.name != "bundle":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(FileWriteError, match="Permission denied"):
        build(named, host, output)
    assert contents(output) == before
    assert list(tmp_path.iterdir()) == [output]


def test_bundle_is_replaced_by_another(named, host, tmp_path):
    output = tmp_path / "out"
    other = Workload.make((1, 1, 1, 1, 1), (1, 1, 1, 1, 1), (1, 1, 1, 1, 1), 1)
    build([NamedWorkload("other", other)], host, output)
    manifest = build(named, host, output)
    assert Manifest.read(output) == manifest
    assert [path for path in output.iterdir() if path.name.startswith(other.id)] == []
    assert list(tmp_path.iterdir()) == [output]


def test_empty_folder_is_filled(named, host, tmp_path):
    (tmp_path / "out").mkdir()
    build(named, host, tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").is_file()


@pytest.mark.parametrize(
    "files",
    [{"thesis.tex": "years"}, {"manifest.json": '{"name": "an extension of a browser"}'}],
    ids=["other files", "other manifest"],
)
def test_folder_of_something_else_is_not_touched(files, named, host, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    for name, text in files.items():
        (output / name).write_text(text)
    with pytest.raises(FileWriteError, match="there is something else than a bundle"):
        build(named, host, output)
    assert {path.name: path.read_text() for path in output.iterdir()} == files


def test_bundle_with_files_of_the_users_is_not_touched(named, host, tmp_path):
    output = tmp_path / "out"
    build(named, host, output)
    (output / "notes.txt").write_text("mine")
    with pytest.raises(FileWriteError, match="or other files beside one"):
        build(named, host, output)
    assert (output / "notes.txt").read_text() == "mine"


def test_file_is_not_replaced(named, host, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(FileWriteError, match="there is something else than a bundle"):
        build(named, host, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_parent_that_is_a_file_is_an_error(named, host, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileWriteError, match="failed to write bundle with"):
        build(named, host, tmp_path / "file" / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_parent_that_is_read_only_is_an_error(named, host, tmp_path):
    parent = tmp_path / "read-only"
    parent.mkdir(mode=0o555)
    with pytest.raises(FileWriteError, match="Permission denied"):
        build(named, host, parent / "out")


def test_working_directory_is_refused_before_anything_is_compiled(
    named, host, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileWriteError, match=r"in use cannot be replaced .*; name a folder in it"):
        build_bundle(
            named, [host], Path(), schedules=[], allow_untuned=True, on_progress=pytest.fail
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", [True, False])
def test_what_a_link_names_is_replaced_and_not_the_link(named, host, tmp_path, there):
    link, folder = tmp_path / "link", tmp_path / "folder"
    link.symlink_to(folder)
    if there:
        folder.mkdir()
    build_bundle(named, [host], link, schedules=[], allow_untuned=True)
    assert link.is_symlink()
    assert Manifest.read(folder).layers
