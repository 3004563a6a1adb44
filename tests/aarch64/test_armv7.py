"""Do libraries for armv7 compute what they should? A small C program calls them in the place of TVM's runtime."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")
pytest.importorskip("ziglang")

from tvm_conv3dt import cpu, device, paths, workload_set
from tvm_conv3dt.compiler.bundle_writer import build_bundle
from tvm_conv3dt.measure.verify import verify
from tvm_conv3dt.memory import stored
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

from .root import Unavailable, prepare

pytestmark = pytest.mark.slow

PHASES = Workload.make((1, 2, 2, 5, 3), (3, 3, 3, 9, 3), (1, 4, 4, 10, 9), 2)
DOT = Workload.make((1, 2, 2, 5, 16), (3, 3, 3, 1, 16), (1, 4, 4, 10, 1), 2, bias=True)
LAYERS = {
    f"{name} {dtype} {form}": workload.recast(form, dtype)
    for name, workload in (("phases", PHASES), ("dot", DOT))
    for dtype in ("float32", "float16", "bfloat16", "float64")
    for form in ("NDHWC", "NCDHW")
}
LAYERS |= {
    "sigmoid": replace(PHASES, activation="sigmoid"),
    "tanh": replace(DOT, activation="tanh"),
    **{
        each.name: each.workload
        for each in workload_set.resolve_all(["nnunet/up1", "3dgan/l1", "vtn/deconv4"])
    },
}
CODES = {"u": 1, "f": 2}  # DLPack's, by NumPy's kinds


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("armv7") / "bundle"
    named = [NamedWorkload(name, workload) for name, workload in LAYERS.items()]
    entry = device.get("armv7")
    return folder, build_bundle(named, [entry], folder, schedules=[], allow_untuned=True)


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The command that starts the program."""
    if cpu.architecture() != "x86_64":
        pytest.skip("the emulator is fetched for x86-64")
    try:
        root = prepare(paths.user_cache())
    except Unavailable as error:
        pytest.skip(f"no armv7 machine can be emulated: {error}")
    program = tmp_path_factory.mktemp("armv7") / "host"
    source = Path(__file__).with_name("armv7_host.c")
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", "arm-linux-gnueabihf.2.17")
    subprocess.run([*zig, "-O1", "-rdynamic", "-o", program, source, "-ldl"], check=True)
    return root.emulated_armv7(program)


@pytest.fixture
def call(host, tmp_path):
    """``call(library, symbol, arrays)`` returns the last of the arrays as the function leaves it."""

    def call(library, symbol, arrays):
        words = []
        for index, array in enumerate(map(stored, arrays)):
            path = tmp_path / str(index)
            array.tofile(path)
            sizes = ",".join(map(str, array.shape))
            words.append(f"{path}:{CODES[array.dtype.kind]}:{array.itemsize * 8}:{sizes}")
        command = [*host, library, f"__tvm_ffi_{symbol}", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
        last = arrays[-1]
        return np.fromfile(tmp_path / str(len(arrays) - 1), last.dtype).reshape(last.shape)

    return call


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_right_on_armv7(bundle, call, name):
    folder, manifest = bundle
    layer = next(each for each in manifest.layers if each.name == name)
    kernel = manifest.levels[0].kernel(name)
    library = folder / kernel.library.file

    def run(x, filters, bias, out):
        empty = np.full(kernel.packed_shape, np.nan, kernel.packed_dtype)
        packed = call(library, layer.pack_symbol, [filters, empty])
        constants = [packed] if bias is None else [packed, bias]
        out[...] = call(library, layer.run_symbol, [x, *constants, out])

    found = verify(layer.workload, run)
    assert found.passed, found
