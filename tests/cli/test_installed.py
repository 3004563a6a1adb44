"""Is the compiler there only with all that it needs?"""

import importlib.machinery
from importlib.util import find_spec

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt.cli import installed

LIBRARIES = ("libtvm_runtime.so", "libtvm_compiler.so")


@pytest.fixture
def without(monkeypatch, tmp_path):
    """``without(package, libraries)``: a package is missing, and TVM has these libraries."""

    def without(package="", libraries=LIBRARIES):
        folder = tmp_path / "tvm"
        (folder / "lib").mkdir(parents=True)
        for name in libraries:
            (folder / "lib" / name).touch()
        tvm = importlib.machinery.ModuleSpec("tvm", None, origin=str(folder / "__init__.py"))
        found = {package: None, "tvm": tvm} if package != "tvm" else {"tvm": None}
        monkeypatch.setattr(
            installed, "find_spec", lambda name: found[name] if name in found else find_spec(name)
        )

    return without


def test_it_is_here():
    assert installed.has_compiler()


def test_it_is_with_all_it_needs(without):
    without()
    assert installed.has_compiler()


@pytest.mark.parametrize("package", ["tvm", "filelock"])
def test_it_is_not_without_a_package(without, package):
    without(package)
    assert not installed.has_compiler()


@pytest.mark.parametrize(("libraries", "there"), [(LIBRARIES[:1], False), ((), True)])
def test_it_is_not_on_a_board_without_its_library(without, libraries, there):
    without(libraries=libraries)
    assert installed.has_compiler() is there  # a TVM of one's own build has none beside it
