"""Loading a bundle for GPUs where there is none: with a driver and a CUDA runtime that have the names of the
true ones and do nothing, and without them. Each test runs a program of its own."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from ctypes.util import find_library
from dataclasses import replace
from pathlib import Path

import pytest

tvm = pytest.importorskip("tvm")

import tvm_conv3dt
from tvm_conv3dt import device
from tvm_conv3dt.compiler.linker import linker_command
from tvm_conv3dt.level import LibraryFile
from tvm_conv3dt.manifest import Manifest

ROOT = Path(tvm_conv3dt.__file__).parent.parent
CUDA_PART = Path(tvm.__file__).parent / "lib" / "libtvm_runtime_cuda.so"

if not CUDA_PART.is_file():
    pytest.skip("this TVM has no part for CUDA", allow_module_level=True)

# What libcuda.so.1 is asked, by us.
DRIVER = """
#include <stdlib.h>
#include <string.h>
static int number(const char *name) { const char *text = getenv(name); return text ? atoi(text) : 0; }
int cuInit(unsigned flags) { return number("STUB_CU_INIT"); }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *gpu, int index) { *gpu = index; return 0; }
int cuDeviceGetName(char *name, int size, int gpu) { strncpy(name, "Stub", size); return 0; }
int cuDeviceGetAttribute(int *value, int which, int gpu)
{ *value = which == 75 ? number("STUB_MAJOR") : 0; return 0; }
int cuGetErrorString(int code, const char **text) { *text = "a stub's error"; return 0; }
"""

PREAMBLE = """
import os, sys
sys.path.insert(0, {root!r})
BUNDLE, CPU_BUNDLE = {bundle!r}, {cpu_bundle!r}
sys.modules["torch"] = None  # tvm-ffi imports it where it is installed, which takes seconds
import tvm_ffi
from tvm_conv3dt import cudart, errors, runtime

class NoTvm:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tvm":
            raise ImportError("tvm must not be imported")

def mapped(name):
    lines = open("/proc/self/maps").read().splitlines()
    return sorted({{line.split()[-1] for line in lines if line.split()[-1].rpartition("/")[2].startswith(name)}})

def is_registered():
    return tvm_ffi.get_global_func("device_api.cuda", allow_missing=True) is not None

def refused(folder=BUNDLE):
    try:
        runtime.load(folder)
    except errors.Conv3dtError as error:
        return f"{{type(error).__name__}}: {{error}}"

def check_cpu():
    import numpy as np
    from tvm_conv3dt.reference import integer_data, reference
    bundle = runtime.load(CPU_BUNDLE)
    workload = bundle.workloads["test/plain"]
    x, filters, bias = integer_data(workload, 1)
    y = bundle.operator("test/plain", filters, bias)(x)
    assert np.array_equal(y, reference(workload, x, filters, bias))
"""


def link(source, name, folder, script=""):
    """Make a shared library of that name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stub.c").write_text(source)
    words = [*linker_command(device.host()), "-shared", "-fPIC", "-w", f"-Wl,-soname,{name}"]
    if script:
        (folder / "stub.map").write_text(script)
        words.append(f"-Wl,--version-script={folder / 'stub.map'}")
    subprocess.run([*words, "-o", folder / name, folder / "stub.c"], check=True, timeout=120)
    return folder / name


def functions(prefix):
    """The functions of a library that TVM's part for CUDA may call: all that its tables of names hold."""
    names = re.findall(rb"\0(" + prefix + rb"[A-Z]\w+)(?=\0)", CUDA_PART.read_bytes())
    return sorted({name.decode() for name in names})


@pytest.fixture(scope="session")
def stubs(tmp_path_factory):
    """Folders with a driver and with a CUDA runtime library that TVM's part for CUDA can be linked with."""
    root = tmp_path_factory.mktemp("stubs")
    rest = [name for name in functions(b"cu") if f"int {name}(" not in DRIVER]
    source = "".join(f"int {name}(void) {{ return 999; }}\n" for name in rest)
    link(DRIVER + source, "libcuda.so.1", root / "driver")
    source = "".join(f"int {name}(void) {{ return 999; }}\n" for name in functions(b"cuda"))
    link(source, "libcudart.so.13", root / "cudart", "libcudart.so.13 { global: *; };")
    return root


@pytest.fixture
def nothing(tmp_path):
    """A folder that hides this machine's CUDA, if it has any, from the loader, which stops at files that are no
    libraries, and from Python, which stops at a package that has no others beside it."""
    folder = tmp_path / "nothing"
    (folder / "nvidia").mkdir(parents=True)
    (folder / "nvidia" / "__init__.py").touch()
    for name in ("libcuda.so.1", "libcudart.so.13"):
        (folder / name).touch()
    return folder


@pytest.fixture
def run(cuda_folder, bundle_folder):
    """A function that runs a program in a fresh process and returns what it printed."""

    def run(program, libraries, bundle=cuda_folder, **environment):
        text = PREAMBLE.format(root=str(ROOT), bundle=str(bundle), cpu_bundle=str(bundle_folder))
        kept = {k: v for k, v in os.environ.items() if k not in ("CUDA_HOME", "CUDA_PATH")}
        path = ":".join(map(str, libraries))
        done = subprocess.run(
            [sys.executable, "-I", "-c", text + textwrap.dedent(program)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**kept, "LD_LIBRARY_PATH": path, "STUB_MAJOR": "9", **environment},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()

    return run


REFUSED = """
print(refused())
print(mapped("libtvm_runtime"))
check_cpu()
print(is_registered())
"""


def test_machine_without_a_driver_loads_nothing_and_runs_cpu_bundles(run, nothing):
    said, mapped, registered = run(REFUSED, [nothing])
    assert said.startswith(
        "PlatformError: failed to find GPU with libcuda.so.1: there is no NVIDIA"
    )
    assert (mapped, registered) == ("[]", "False")


@pytest.mark.skipif(find_library("cuda") is not None, reason="this machine has a driver")
def test_this_machine_is_told_that_it_has_no_driver(run):
    said, mapped, registered = run(REFUSED, [])
    assert "there is no NVIDIA driver on this machine (libcuda.so.1: cannot open shared" in said
    assert (mapped, registered) == ("[]", "False")


def test_driver_without_a_gpu_loads_nothing(run, stubs):
    said, mapped, registered = run(REFUSED, [stubs / "driver"], STUB_CU_INIT="100")
    assert "NVIDIA's driver shows this process no GPU" in said
    assert (mapped, registered) == ("[]", "False")


def test_earlier_gpu_loads_nothing(run, stubs):
    said, mapped, registered = run(REFUSED, [stubs / "driver"], STUB_MAJOR="7")
    assert "which this machine (Stub, compute capability 7.0, driver of CUDA 13.0) does not" in said
    assert (mapped, registered) == ("[]", "False")


def test_machine_without_the_cuda_runtime_loads_nothing(run, stubs, nothing):
    program = f"""
        from pathlib import Path
        cudart._TOOLKITS = Path({str(nothing)!r})
        sys.path.insert(0, {str(nothing)!r})
    """
    said, mapped, registered = run(textwrap.dedent(program) + REFUSED, [stubs / "driver", nothing])
    assert said.startswith("LibraryError: failed to load CUDA runtime library with libcudart.so.13")
    assert (mapped, registered) == ("[]", "False")


LOADED = """
sys.meta_path.insert(0, NoTvm())
bundle = runtime.load(BUNDLE)
print(bundle.level.device, is_registered())
print(*mapped("libcudart"))
print(len(mapped("libtvm_runtime_cuda")), len(mapped("libtvm_runtime.so")))
"""


def test_gpu_loads_its_level_and_everything_once(run, stubs):
    again = "runtime.load(BUNDLE); check_cpu(); print(len(mapped('libtvm_runtime_cuda')))"
    level, _, copies, later = run(LOADED + again, [stubs / "driver", stubs / "cudart"])
    assert (level, copies, later) == ("cuda-sm_90 True", "1 1", "1")


def test_earlier_gpu_loads_its_level(run, stubs, cuda_folder, tmp_path):
    # A stub has no minor number: sm_87 is not 8.0, so the level is renamed.
    folder = shutil.copytree(cuda_folder, tmp_path / "bundle")
    manifest = Manifest.read(folder)
    first, second = manifest.levels
    replace(manifest, levels=(first, replace(second, gpu_arch="sm_80"))).write(folder)
    level, *_ = run(LOADED, [stubs / "driver", stubs / "cudart"], bundle=folder, STUB_MAJOR="8")
    assert level == "cuda-sm_87 True"


@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH"])
def test_cuda_runtime_of_the_environment_is_the_one_that_tvm_gets(
    run, stubs, nothing, tmp_path, variable
):
    path = copied(stubs, tmp_path / "toolkit" / "lib64")
    environment = {variable: str(tmp_path / "toolkit")}
    found = run(LOADED, [stubs / "driver", nothing], **environment)
    assert found == ["cuda-sm_90 True", str(path), "1 1"]


@pytest.mark.parametrize("layout", ["cu13", "cuda_runtime"])
def test_cuda_runtime_of_a_wheel_is_the_one_that_tvm_gets(run, stubs, nothing, tmp_path, layout):
    path = copied(stubs, tmp_path / "site" / "nvidia" / layout / "lib")
    program = f"sys.path.insert(0, {str(tmp_path / 'site')!r})" + LOADED
    assert run(program, [stubs / "driver", nothing])[1] == str(path)


def test_cuda_runtime_of_a_toolkit_is_the_one_that_tvm_gets(run, stubs, nothing, tmp_path):
    path = copied(stubs, tmp_path / "cuda-13.0" / "targets" / "any-linux" / "lib")
    program = f"""
        from pathlib import Path
        cudart._TOOLKITS = Path({str(tmp_path)!r})
        sys.path.insert(0, {str(nothing)!r})
    """
    assert run(textwrap.dedent(program) + LOADED, [stubs / "driver", nothing])[1] == str(path)


def test_cuda_runtime_that_is_loaded_already_is_the_one_that_tvm_gets(
    run, stubs, nothing, tmp_path
):
    path = copied(stubs, tmp_path / "framework")
    other = copied(stubs, tmp_path / "toolkit" / "lib64")
    program = f"import ctypes; held = ctypes.CDLL({str(path)!r})" + LOADED
    found = run(program, [stubs / "driver", nothing], CUDA_HOME=str(other.parent.parent))
    assert found == ["cuda-sm_90 True", str(path), "1 1"]


def copied(stubs, folder):
    folder.mkdir(parents=True)
    return Path(shutil.copy(stubs / "cudart" / "libcudart.so.13", folder))


def test_tvm_that_is_imported_later_uses_the_loaded_part(run, stubs):
    program = """
        runtime.load(BUNDLE)
        import tvm
        runtime.load(BUNDLE)
        print(len(mapped("libtvm_runtime_cuda")), is_registered())
    """
    assert run(program, [stubs / "driver", stubs / "cudart"]) == ["1 True"]


@pytest.mark.parametrize("found", [True, False], ids=["with its part", "without its part"])
def test_tvm_that_is_imported_before_has_one_part(run, stubs, nothing, found):
    home = nothing.parent / "toolkit"
    copied(stubs, home / "lib64")
    program = """
        import tvm
        print(is_registered())
        runtime.load(BUNDLE)
        print(len(mapped("libtvm_runtime_cuda")), is_registered())
        check_cpu()
    """
    libraries = [stubs / "driver", stubs / "cudart" if found else nothing]
    assert run(program, libraries, CUDA_HOME=str(home)) == [str(found), "1 True"]


def with_another_part(folder, content):
    """Put something else in the place of the part for CUDA, with a manifest that vouches for it."""
    manifest = Manifest.read(folder)
    assert manifest.cuda is not None
    path = folder / manifest.cuda.library.file
    path.write_bytes(content)
    replace(manifest, cuda=replace(manifest.cuda, library=LibraryFile.of(path))).write(folder)
    return folder


@pytest.fixture
def broken(cuda_folder, tmp_path):
    """A copy of the bundle for GPUs, to be damaged."""
    return shutil.copytree(cuda_folder, tmp_path / "bundle")


def test_tvm_with_another_part_is_not_imported_later_and_nothing_dies(run, stubs, broken):
    folder = with_another_part(broken, CUDA_PART.read_bytes() + b"\0")
    program = """
        runtime.load(BUNDLE)
        try:
            import tvm
        except ImportError as error:
            print(error)
        check_cpu()
        print(len(mapped("libtvm_runtime_cuda")), is_registered())
    """
    said, found = run(program, [stubs / "driver", stubs / "cudart"], bundle=folder)
    assert said.startswith("failed to import module tvm with runtime library")
    assert found == "1 True"


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (
            Path.unlink,
            "libtvm_runtime_cuda.so: the file is missing; copy or build the bundle again",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "bytes and the manifest says"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"),
            "libtvm_runtime_cuda.so: its SHA-256 is",
        ),
    ],
    ids=["missing", "truncated", "modified"],
)
def test_damaged_part_is_refused_before_anything_is_loaded(run, stubs, broken, damage, rule):
    damage(broken / "libtvm_runtime_cuda.so")
    said, mapped, registered = run(REFUSED, [stubs / "driver", stubs / "cudart"], bundle=broken)
    assert said.startswith("LibraryError: failed to load library with")
    assert rule in said
    assert (mapped, registered) == ("[]", "False")


def test_part_that_cannot_be_loaded_is_refused(run, stubs, broken):
    folder = with_another_part(broken, b"not a library")
    said, _, registered = run(REFUSED, [stubs / "driver", stubs / "cudart"], bundle=folder)
    assert "libtvm_runtime_cuda.so: the system's loader refused it" in said
    assert registered == "False"


def test_part_that_is_another_library_is_refused(run, stubs, broken):
    folder = with_another_part(broken, (stubs / "cudart" / "libcudart.so.13").read_bytes())
    said, _, registered = run(REFUSED, [stubs / "driver", stubs / "cudart"], bundle=folder)
    assert "it is not the part of TVM's runtime that drives GPUs" in said
    assert registered == "False"
