"""What a build leaves where the disk is full, or a file must not grow further: the old bundle, or nothing."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt.compiler import bundle_writer
from tvm_conv3dt.compiler.bundle_writer import build_bundle
from tvm_conv3dt.errors import FileWriteError
from tvm_conv3dt.workload_set import NamedWorkload


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def build(small, host, tmp_path):
    """A function that builds a bundle with everything that one can carry."""

    def make():
        named = [NamedWorkload("net/up", small)]
        options = {"schedules": [], "allow_untuned": True, "with_wrapper": True}
        return build_bundle(named, [host], tmp_path / "out", **options)

    return make


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# What each kind of file in a bundle is written with.
WRITES = {
    "folder": ("tempfile.mkdtemp",),
    "runtime library and licences": ("shutil.copyfile",),
    "library": ("tvm_conv3dt.compiler.kernel.export",),
    "wrapper": ("zipfile.ZipFile.writestr",),
    "manifest": ("os.fsync",),
}


@pytest.mark.parametrize("place", WRITES)
@pytest.mark.parametrize("first", [True, False], ids=["first build", "later build"])
def test_full_disk_leaves_nothing_half_written(place, first, build, tmp_path, monkeypatch):
    if not first:
        build()
    before = {} if first else contents(tmp_path / "out")
    for target in WRITES[place]:
        monkeypatch.setattr(target, full)
    with pytest.raises(FileWriteError) as caught:
        build()
    assert "No space left on device" in str(caught.value)
    assert isinstance(caught.value, OSError)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ([] if first else ["out"])
    assert first or contents(tmp_path / "out") == before


def test_full_disk_is_told_with_what_mends_it(build, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(FileWriteError) as caught:
        build()
    assert str(caught.value) == (
        f"failed to write bundle with {tmp_path / 'out'}: No space left on device; "
        "check its permissions and the free space, or name another folder"
    )


def test_new_bundle_that_finds_no_place_leaves_the_old_one(build, tmp_path, monkeypatch):
    build()
    before = contents(tmp_path / "out")
    monkeypatch.setattr(bundle_writer, "_replace", full)
    with pytest.raises(FileWriteError, match="No space left"):
        build()
    assert contents(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# The system itself refuses: no file of the process may grow beyond a megabyte, and the runtime library is larger.
LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
sys.argv[0] = "tvm-conv3dt"
runpy.run_module("tvm_conv3dt", run_name="__main__")
"""


@pytest.mark.slow
def test_command_tells_that_a_file_could_not_be_written(small, tmp_path):
    output = tmp_path / "out"
    words = ["build", "--workloads", small.id, "-o", str(output), "--allow-untuned"]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(bundle_writer.__file__).parents[2],
    )
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == (
        f"error: failed to write bundle with {output}: File too large; "
        "check its permissions and the free space, or name another folder"
    )
    assert list(tmp_path.iterdir()) == []
