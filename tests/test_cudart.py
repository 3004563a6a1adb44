"""The CUDA runtime library: in which order it is looked for, and what is told where it is not.

The system's loader is a fake one here; `tests/runtime/test_cuda_libraries.py` asks the true one.
"""

import importlib.util
import os
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import pytest

from tvm_conv3dt import cudart
from tvm_conv3dt.errors import LibraryError

NAME = "libcudart.so.13"


class Places:
    """A machine: which files there are, and which of them, or of plain names, the loader loads."""

    def __init__(self, root):
        self.root = root
        self.loadable = set()
        self.loaded = set()
        self.asked = []

    def add(self, folder, works=True):
        path = self.root / folder / NAME
        path.parent.mkdir(parents=True)
        path.touch()
        if works:
            self.loadable.add(str(path))
        return str(path)

    def load(self, path, mode):
        held = bool(mode & os.RTLD_NOLOAD)
        if not held:
            self.asked.append(path)
        if path not in (self.loaded if held else self.loadable):
            raise OSError("it is refused")
        self.loaded.add(path)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A machine without any CUDA, to be filled."""
    made = Places(tmp_path)
    monkeypatch.setattr(cudart, "ctypes", SimpleNamespace(CDLL=made.load))
    monkeypatch.setattr(cudart, "_TOOLKITS", tmp_path / "local")
    # Other tests may have loaded a true one into this process.
    monkeypatch.setattr(cudart, "_path_of", lambda name: name)
    spec = ModuleSpec("nvidia", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / "site" / "nvidia")]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CUDA_PATH", str(tmp_path / "path"))
    return made


FOLDERS = (
    "home/lib64",
    "home/lib",
    "home/targets/sbsa-linux/lib",
    "path/lib64",
    "site/nvidia/cu13/lib",
    "site/nvidia/cuda_runtime/lib",
    "local/cuda/lib64",
    "local/cuda-13.0/targets/aarch64-linux/lib",
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_it_is_found_in(places, folder):
    path = places.add(folder)
    assert cudart.load(NAME) == path


def test_nearer_places_come_first(places):
    paths = {folder: places.add(folder, works=False) for folder in FOLDERS}
    with pytest.raises(LibraryError):
        cudart.load(NAME)
    *own, former, newer = paths.values()
    assert places.asked == [*own, NAME, newer, former]


def test_one_that_is_loaded_already_is_taken(places):
    places.add("home/lib64")
    places.loaded.add(NAME)
    assert cudart.load(NAME) == NAME
    assert places.asked == []


def test_what_the_systems_loader_finds_is_taken_before_toolkits(places):
    places.add("local/cuda/lib64")
    places.loadable.add(NAME)
    assert cudart.load(NAME) == NAME


def test_newest_toolkit_is_taken(places):
    places.add("local/cuda-13.0/lib64")
    newest = places.add("local/cuda-13.1/lib64")
    assert cudart.load(NAME) == newest


def test_one_that_does_not_load_is_passed_over(places):
    places.add("home/lib64", works=False)
    path = places.add("path/lib64")
    assert cudart.load(NAME) == path


def test_one_of_another_major_version_is_not_taken(places):
    other = places.root / "home" / "lib64" / "libcudart.so.12"
    other.parent.mkdir(parents=True)
    other.touch()
    places.loadable.add(str(other))
    with pytest.raises(LibraryError):
        cudart.load(NAME)


def test_error_says_what_was_looked_for_and_where(places, monkeypatch):
    monkeypatch.delenv("CUDA_PATH")
    with pytest.raises(LibraryError) as caught:
        cudart.load(NAME)
    root = places.root
    assert str(caught.value) == (
        "failed to load CUDA runtime library with libcudart.so.13: it is not among the loaded libraries, nor in "
        f"lib64, lib, targets/*/lib of CUDA_HOME ({root}/home) and CUDA_PATH (not set), nor in NVIDIA's wheels "
        f"({root}/site/nvidia/cu13/lib, {root}/site/nvidia/cuda_runtime/lib), nor where the system's loader "
        f"searches, nor in lib64, lib, targets/*/lib of {root}/local/cuda*; "
        "pip install 'nvidia-cuda-runtime==13.*', or install the CUDA toolkit 13"
    )


def test_error_says_which_did_not_load(places):
    path = places.add("site/nvidia/cu13/lib", works=False)
    with pytest.raises(
        LibraryError, match=rf"; {path} does not load \(it is refused\); pip install"
    ):
        cudart.load(NAME)


@pytest.mark.parametrize("failure", [None, ImportError("broken"), ValueError("no spec")])
def test_machine_without_wheels_is_told_so(places, monkeypatch, failure):
    def find_spec(name):
        if failure is not None:
            raise failure

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(LibraryError, match=r"NVIDIA's wheels \(none is installed\)"):
        cudart.load(NAME)
