"""Where does the runtime library of another architecture come from, and is a wrong one noticed?

pip is the real one, pointed at a folder in the place of an index.
"""

import subprocess
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

tvm = pytest.importorskip("tvm")

from tvm_conv3dt import cpu
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import target_runtime
from tvm_conv3dt.compiler.target_runtime import CUDA_RUNTIME, RUNTIME, place
from tvm_conv3dt.errors import FileWriteError, LibraryError

NATIVE, FOREIGN = sorted(
    map(catalogue.get, ("x86-64-v2", "aarch64")),
    key=lambda each: each.arch != cpu.architecture(),
)
ARMV7 = catalogue.get("armv7")
VERSION = metadata.version("apache-tvm")


def elf(arch):
    """The first bytes of a shared library."""
    bits, machine = target_runtime._MACHINES[arch]
    return b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9) + b"\x03\x00" + bytes([machine, 0]) + b"..."


def write_wheel(folder, arch=FOREIGN.arch, version=VERSION, held=None):
    """A wheel as TVM's are, but for its size."""
    held = {RUNTIME: elf(arch), CUDA_RUNTIME: elf(arch)} if held is None else held
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"apache_tvm-{version}-py3-none-manylinux_2_27_{arch}.manylinux_2_28_{arch}.whl"
    info = f"apache_tvm-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in held.items():
            archive.writestr(f"tvm/lib/{name}", content)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: apache-tvm\nVersion: {version}\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TVM_CONV3DT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "runtime"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for the only index."""
    for name, value in {
        "NO_INDEX": "1",
        "FIND_LINKS": tmp_path / "index",
        "CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(f"PIP_{name}", str(value))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


@pytest.fixture
def no_pip(monkeypatch):
    def run(*_, **__):
        raise AssertionError("pip was called")

    monkeypatch.setattr(subprocess, "run", run)


def test_this_architectures_is_the_installed_one(out, cache, no_pip):
    (found,) = place(out, NATIVE)
    assert found == out / RUNTIME
    assert found.read_bytes() == (Path(tvm.__file__).parent / "lib" / RUNTIME).read_bytes()
    assert not cache.exists()


def test_another_architectures_is_downloaded(out, cache, index):
    write_wheel(index)
    assert place(out, FOREIGN) == [out / RUNTIME]
    assert (out / RUNTIME).read_bytes() == elf(FOREIGN.arch)
    kept = cache / f"apache-tvm-{VERSION}-{FOREIGN.arch}"
    assert {path.name for path in kept.iterdir()} == {RUNTIME, CUDA_RUNTIME}
    # Nothing of the wheel stays.
    assert {path.name for path in cache.iterdir()} == {kept.name, f"{kept.name}.lock"}


def test_it_is_downloaded_once(out, cache, index, monkeypatch):
    write_wheel(index)
    place(out, FOREIGN)
    monkeypatch.setattr(target_runtime, "_download", None)
    assert place(out, FOREIGN, gpu=True) == [out / RUNTIME, out / CUDA_RUNTIME]


def test_wheel_of_another_version_is_not_taken(out, cache, index):
    write_wheel(index, version="0.1.0")
    with pytest.raises(LibraryError, match=f"apache-tvm {VERSION} for {FOREIGN.arch}: ERROR: No m"):
        place(out, FOREIGN)


def test_no_network_is_an_error_that_names_both_ways(out, cache, index):
    with pytest.raises(LibraryError) as caught:
        place(out, FOREIGN)
    assert "connect this machine to a package index" in str(caught.value)
    assert "--runtime PATH" in str(caught.value)
    assert list(out.iterdir()) == []
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_missing_pip_is_an_error_that_names_the_other_way(out, cache, monkeypatch):
    monkeypatch.setattr(target_runtime.sys, "executable", "/bin/false")
    with pytest.raises(LibraryError, match=r"pip failed without a word; .*--runtime PATH"):
        place(out, FOREIGN)


def test_wheel_that_holds_another_architectures_is_not_kept(out, cache, index):
    write_wheel(index, held={RUNTIME: elf(NATIVE.arch), CUDA_RUNTIME: elf(NATIVE.arch)})
    with pytest.raises(LibraryError, match=f"is for {NATIVE.arch}, and the bundle is for"):
        place(out, FOREIGN)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_cache_that_cannot_be_written_is_an_error(out, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("TVM_CONV3DT_CACHE", str(tmp_path / "file"))
    with pytest.raises(FileWriteError, match=r"failed to write cache .*TVM_CONV3DT_CACHE"):
        place(out, FOREIGN)


def test_architecture_without_wheels_gets_none(out, cache, no_pip):
    assert place(out, ARMV7) == []
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("device", [NATIVE, FOREIGN, ARMV7], ids=lambda each: each.name)
def test_library_that_is_given_is_taken(device, out, tmp_path, no_pip):
    given = tmp_path / "mine.so"
    given.write_bytes(elf(device.arch))
    assert place(out, device, given=given) == [out / RUNTIME]
    assert (out / RUNTIME).read_bytes() == elf(device.arch)


def test_part_for_gpus_is_looked_for_beside_the_library_that_is_given(out, tmp_path):
    given = tmp_path / RUNTIME
    given.write_bytes(elf(FOREIGN.arch))
    with pytest.raises(LibraryError, match=f"{CUDA_RUNTIME}: there is no such file"):
        place(out, FOREIGN, gpu=True, given=given)
    given.with_name(CUDA_RUNTIME).write_bytes(elf(FOREIGN.arch))
    assert place(out, FOREIGN, gpu=True, given=given) == [out / RUNTIME, out / CUDA_RUNTIME]


def test_wheel_that_is_given_is_taken(out, tmp_path, no_pip):
    given = write_wheel(tmp_path / "wheels")
    assert place(out, FOREIGN, gpu=True, given=given) == [out / RUNTIME, out / CUDA_RUNTIME]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (elf(NATIVE.arch), f"mine.so is for {NATIVE.arch}, and the bundle is for {FOREIGN.arch}"),
        (elf("armv7"), "mine.so is for armv7, and"),
        (elf(FOREIGN.arch)[:18] + b"\xf3\x00", "mine.so is for machine 243, and"),
        (b"#!/bin/sh\n" * 4, "mine.so is no shared library"),
        (elf(FOREIGN.arch)[:17], "mine.so is no shared library"),
        (b"", "mine.so is no shared library"),
    ],
    ids=["this machine's", "armv7's", "unknown machine", "script", "cut off", "empty"],
)
def test_wrong_file_is_refused(content, rule, out, tmp_path):
    given = tmp_path / "mine.so"
    given.write_bytes(content)
    with pytest.raises(LibraryError, match=rf"with {given}: {rule}"):
        place(out, FOREIGN, given=given)
    assert list(out.iterdir()) == []


def test_missing_file_is_refused(out, tmp_path):
    with pytest.raises(LibraryError, match=r"absent\.so: there is no such file; give the wheel"):
        place(out, FOREIGN, given=tmp_path / "absent.so")


@pytest.mark.parametrize(
    ("wheel", "rule"),
    [
        ({"version": "0.26.0"}, f"it is not a wheel of apache-tvm {VERSION}"),
        ({"held": {}}, f"it holds no {RUNTIME}"),
        ({"held": {RUNTIME: elf(FOREIGN.arch)}}, f"it holds no {CUDA_RUNTIME}"),
        ({"arch": NATIVE.arch}, f"{RUNTIME} is for {NATIVE.arch}"),
    ],
    ids=["another version", "no library", "no part for GPUs", "another architecture"],
)
def test_wrong_wheel_is_refused(wheel, rule, out, tmp_path):
    given = write_wheel(tmp_path / "wheels", **wheel)
    with pytest.raises(LibraryError, match=rule):
        place(out, FOREIGN, gpu=True, given=given)
