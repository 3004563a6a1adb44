"""Does the C++ example, built for aarch64, run a bundle there without Python?"""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device
from tvm_conv3dt.compiler.bundle_writer import build_bundle
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

pytestmark = pytest.mark.slow

BUILDING = Path(__file__).parents[1] / "examples" / "building.py"
LAYER = Workload.make([1, 3, 4, 5, 6], [3, 3, 3, 7, 6], [1, 6, 8, 9, 7], 2, bias=True)


@pytest.fixture(scope="module")
def program(machine, tmp_path_factory):
    spec = importlib.util.spec_from_file_location("building", BUILDING)
    building = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(building)
    folder = tmp_path_factory.mktemp("cpp") / "build"
    ffi = machine.site / "tvm_ffi"
    building.build(folder, target="aarch64-linux-gnu.2.28", tvm_ffi=ffi)
    shutil.copy(ffi / "lib" / "libtvm_ffi.so", folder)
    return folder / "run_layer"


def test_example_runs_a_layer(machine, program, tmp_path):
    entry, named = device.get("aarch64"), [NamedWorkload("net/up", LAYER)]
    build_bundle(named, [entry], tmp_path / "bundle", schedules=[], allow_untuned=True)
    done = subprocess.run(
        [*machine.emulator, program, tmp_path / "bundle", "net/up", "--threads", "2"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("net/up on aarch64: PASSED, ")
