"""The archive that a bundle can carry: what it holds, and that it is enough beside NumPy and tvm-ffi."""

import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("tvm")

import tvm_conv3dt
from tvm_conv3dt import runtime
from tvm_conv3dt.compiler import wrapper
from tvm_conv3dt.compiler.bundle_writer import build_bundle
from tvm_conv3dt.files import sha256
from tvm_conv3dt.manifest import Manifest
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

# What a machine has that only runs bundles; tvm-ffi itself needs the last one.
INSTALLED = ("numpy", "tvm_ffi", "typing_extensions")
MOST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def bundle(small, host, tmp_path_factory):
    """A bundle of two layers with the archive; to be read only."""
    folder = tmp_path_factory.mktemp("wrapper") / "bundle"
    biased = Workload.make(
        [1, 3, 3, 4, 5], [3, 3, 3, 7, 5], [1, 5, 6, 7, 7], 2, bias=True, activation="relu"
    )
    named = [NamedWorkload("net/up", small), NamedWorkload("net/last", biased)]
    build_bundle(named, [host], folder, schedules=[], allow_untuned=True, with_wrapper=True)
    return folder


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A function that runs a Python with NumPy and tvm-ffi only, none of which is this package."""
    packages = tmp_path_factory.mktemp("board")
    for name in INSTALLED:
        origin = Path(importlib.util.find_spec(name).origin)
        place = origin.parent if origin.name == "__init__.py" else origin
        for path in (place, place.with_name(f"{name}.libs")):
            if path.exists():
                (packages / path.name).symlink_to(path)

    def run(*words, cwd=None):
        command = [sys.executable, "-S", "-P" if sys.version_info >= (3, 11) else "-s"]
        environment = {**os.environ, "PYTHONPATH": str(packages)}
        return subprocess.run(
            [*command, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd or packages,
            env=environment,
        )

    return run


def test_manifest_knows_the_archive(bundle):
    held = Manifest.read(bundle).wrapper
    path = bundle / wrapper.FILE_NAME
    assert (held.file, held.sha256, held.bytes) == (
        "conv3dt.pyz",
        sha256(path),
        path.stat().st_size,
    )


def test_bundle_without_it_says_so(small, host, tmp_path):
    named = [NamedWorkload("net/up", small)]
    manifest = build_bundle(named, [host], tmp_path / "out", schedules=[], allow_untuned=True)
    assert manifest.wrapper is None
    assert not (tmp_path / "out" / wrapper.FILE_NAME).exists()


def test_bundle_with_it_is_a_bundle_to_replace(small, host, tmp_path):
    named = [NamedWorkload("net/up", small)]
    for with_wrapper in (True, False):
        build_bundle(
            named,
            [host],
            tmp_path / "out",
            schedules=[],
            allow_untuned=True,
            with_wrapper=with_wrapper,
        )
    assert not (tmp_path / "out" / wrapper.FILE_NAME).exists()


def test_bundle_of_one_layer_is_small(small, host, tmp_path):
    named = [NamedWorkload("net/up", small)]
    folder = tmp_path / "out"
    build_bundle(named, [host], folder, schedules=[], allow_untuned=True, with_wrapper=True)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MOST_BYTES


def test_same_sources_give_the_same_bytes(bundle, tmp_path):
    assert wrapper.write(tmp_path) == Manifest.read(bundle).wrapper


def test_archive_may_be_run(bundle):
    assert stat.S_IMODE((bundle / wrapper.FILE_NAME).stat().st_mode) == 0o755


def test_archive_holds_nothing_of_the_compiler_and_its_licence(bundle):
    with zipfile.ZipFile(bundle / wrapper.FILE_NAME) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    assert not [name for name in names if name.startswith("tvm_conv3dt/compiler/")]
    assert {"__main__.py", "tvm_conv3dt/LICENSE", "tvm_conv3dt/NOTICE"} <= set(names)
    package = Path(tvm_conv3dt.__file__).parent
    parts = [*package.glob("*.py"), *(package / "runtime").glob("*.py")]
    assert {f"tvm_conv3dt/{path.relative_to(package)}" for path in parts} <= set(names)


def test_copied_folder_is_enough(bundle, board):
    done = board(bundle / wrapper.FILE_NAME, "verify")
    assert done.returncode == 0, done.stderr
    level = runtime.load(bundle).level.device
    assert done.stdout == f"PASSED  net/up on {level}\nPASSED  net/last on {level}\n"


def test_running_leaves_the_folder_as_it_is(bundle, board):
    def listed():
        return {path.name: path.stat().st_mtime_ns for path in (bundle, *bundle.iterdir())}

    before = listed()
    assert board(bundle / wrapper.FILE_NAME, "verify").returncode == 0
    assert listed() == before


def test_another_version_of_python_compiles_the_sources(bundle, board, tmp_path):
    folder = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    with zipfile.ZipFile(bundle / wrapper.FILE_NAME) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(folder / wrapper.FILE_NAME, "w") as archive:
        for name, content in entries.items():
            # The first four bytes say which version compiled it.
            foreign = b"\0\0\r\n" + content[4:] if name.endswith(".pyc") else content
            archive.writestr(name, foreign)
    done = board(folder / wrapper.FILE_NAME, "verify", "--layer", "net/up")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PASSED  net/up on ")


def test_layers_are_timed(bundle, board):
    done = board(bundle / wrapper.FILE_NAME, "time", "--layer", "net/up", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("net/up on ")
    assert done.stdout.endswith(" ms with 1 threads\n")


IMPORTED = """
import json, sys
sys.path.insert(0, "conv3dt.pyz")
import numpy as np
import tvm_conv3dt
from tvm_conv3dt.reference import integer_data, reference
bundle = tvm_conv3dt.load(".")
workload = bundle.workloads["net/last"]
x, filters, bias = integer_data(workload, 3)
expected = reference(workload, x, filters, bias)
arguments = (workload.output_shape, workload.strides, workload.padding)
named = tvm_conv3dt.conv3d_transpose(x, filters, *arguments, bias=bias, activation="relu")
op = bundle.operator("net/last", filters, bias)
print(json.dumps([
    tvm_conv3dt.__file__, bool(np.array_equal(op(x), expected)), bool(np.array_equal(named, expected))
]))
"""


def test_package_is_imported_from_the_archive(bundle, board):
    done = board("-c", IMPORTED, cwd=bundle)
    assert done.returncode == 0, done.stderr
    file, *right = json.loads(done.stdout)
    assert bundle / Path(file).parent == bundle / "conv3dt.pyz" / "tvm_conv3dt"
    assert right == [True, True]


def test_workload_that_no_bundle_holds_is_told(board, bundle):
    program = IMPORTED.split("workload =", maxsplit=1)[0] + (
        "from tvm_conv3dt.errors import CompilerMissingError\n"
        "one = np.ones((1,) * 5, np.float32)\n"
        "try:\n    tvm_conv3dt.conv3d_transpose(one, one, one.shape, 1)\n"
        "except CompilerMissingError as error:\n    print(error)"
    )
    done = board("-c", program, cwd=bundle)
    assert "the compiler is not installed, and the loaded bundles hold n1_x" in done.stdout
