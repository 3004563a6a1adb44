"""Bundles in a process in which the compiler cannot be imported."""

import json
import shutil
import subprocess
import sys

import pytest

from tvm_conv3dt.cli import without_compiler
from tvm_conv3dt.errors import VerificationError


def test_bundles_are_verified_and_timed(bundle):
    rows, ceilings = without_compiler.measure({"one": bundle, "two": bundle}, 0.01)
    assert [row.name for row in rows] == ["small/up", "small/odd"]
    assert all(set(row.timings) == {"one", "two"} for row in rows)
    assert ceilings.gflops > 0


def test_compiler_is_blocked():
    program = """
import sys
from tvm_conv3dt.cli.without_compiler import NoCompiler
sys.meta_path.insert(0, NoCompiler())
import tvm_ffi
try:
    import tvm.target
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "tvm is blocked in this process\n"


def test_bundle_that_does_not_load_is_an_error(bundle, tmp_path, capfd):
    damaged = tmp_path / "bundle"
    shutil.copytree(bundle, damaged)
    manifest = json.loads((damaged / "manifest.json").read_text())
    manifest["platform"]["arch"] = "abacus"
    (damaged / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(VerificationError, match="without the compiler ended with 1"):
        without_compiler.measure({"damaged": damaged}, 0.01)
    assert "abacus" in capfd.readouterr().err
