"""Is each workload compiled once, for all processes that share the cache?"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tvm")

import tvm_conv3dt
from tvm_conv3dt.compiler import bundle_writer, cache, schedule, schedule_file
from tvm_conv3dt.errors import CompileError, FileWriteError
from tvm_conv3dt.manifest import Manifest

ROOT = Path(tvm_conv3dt.__file__).parent.parent


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty cache, and a working directory without schedules."""
    monkeypatch.setenv("TVM_CONV3DT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def builds(monkeypatch):
    """The paths that were built."""
    calls = []

    def build(named, devices, output, **options):
        calls.append(output)
        return bundle_writer.build_bundle(named, devices, output, **options)

    monkeypatch.setattr(cache, "build_bundle", build)
    return calls


def test_entry_holds_the_workload(small, folder):
    entry = cache.bundle_for(small)
    assert [layer.workload for layer in Manifest.read(entry).layers] == [small]
    assert entry.is_relative_to(folder)


def test_second_call_builds_nothing(small, builds):
    assert cache.bundle_for(small) == cache.bundle_for(small)
    assert len(builds) == 1


def test_own_schedule_is_used_and_has_an_entry_of_its_own(small, host, builds):
    untuned = cache.bundle_for(small)
    default = schedule.default_schedule(small, host)
    sch = default.apply(host)
    sch.annotate(sch.get_sblock("y"), "note", 1)
    other = replace(default, source="tuned", trace=schedule.trace_json(sch.trace))
    schedule_file.write(other, Path("schedules"))
    tuned = cache.bundle_for(small)
    assert tuned != untuned
    assert Manifest.read(tuned).levels[0].kernels[0].schedule.source == "tuned"
    assert len(builds) == 2


def test_schedule_of_another_tvm_is_passed_over(small, host):
    path = schedule_file.write(schedule.default_schedule(small, host), Path("schedules"))
    path.write_text(path.read_text().replace('"definition"', '"other"'))
    entry = cache.bundle_for(small)
    assert Manifest.read(entry).levels[0].kernels[0].schedule.source == "default"


def test_entry_of_another_schema_is_passed_over(small, monkeypatch, builds):
    entry = cache.bundle_for(small)
    monkeypatch.setattr(cache, "SCHEMA", cache.SCHEMA + 1)
    assert cache.bundle_for(small) != entry
    assert len(builds) == 2


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_entry_that_has_lost_a_file_is_built_again(small, builds, damage):
    entry = cache.bundle_for(small)
    for path in entry.glob("n1_*.so"):
        damage(path)
    assert cache.bundle_for(small) == entry
    assert len(builds) == 2
    Manifest.read(entry)
    assert all((entry / each.file).stat().st_size for each in Manifest.read(entry).libraries)


def test_failed_build_leaves_no_entry(small, monkeypatch, builds):
    def fail(*_):
        raise CompileError("failed to compile")

    with monkeypatch.context() as patch:
        patch.setattr(bundle_writer.kernel, "compile_kernel", fail)
        with pytest.raises(CompileError):
            cache.bundle_for(small)
    cache.bundle_for(small)
    assert len(builds) == 2


def test_cache_that_cannot_be_written_is_an_error(small, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TVM_CONV3DT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(FileWriteError, match="set TVM_CONV3DT_CACHE to a folder that can be"):
        cache.bundle_for(small)


def test_cache_is_where_the_platform_has_its_caches(monkeypatch):
    monkeypatch.delenv("TVM_CONV3DT_CACHE")
    assert cache.folder().name == "tvm-conv3dt"


PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from tvm_conv3dt.compiler import bundle_writer, cache
from tvm_conv3dt.spec import Workload
def build(*arguments, **options):
    print("built")
    return bundle_writer.build_bundle(*arguments, **options)
cache.build_bundle = build
print("ready", flush=True)
sys.stdin.readline()
cache.bundle_for(Workload.from_id({id!r}))
"""


def test_processes_that_come_at_once_build_once(small):
    program = PROGRAM.format(root=str(ROOT), id=small.id)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert sorted(said) == ["", "built\n"]
    assert [process.returncode for process in processes] == [0, 0]
