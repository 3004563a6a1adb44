"""What do bundles for other architectures hold? Whether they run is the affair of tests/aarch64."""

import re
from dataclasses import replace

import pytest

pytest.importorskip("tvm")
pytest.importorskip("ziglang")

from tvm_conv3dt import cpu
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import target_runtime
from tvm_conv3dt.compiler.bundle_writer import build_bundle
from tvm_conv3dt.compiler.target_runtime import CUDA_RUNTIME, RUNTIME
from tvm_conv3dt.errors import LibraryError, UnsupportedError
from tvm_conv3dt.manifest import Manifest, Platform
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

from .cuda_compilers import any_compiler

ARMS = ("raspberry-pi-4", "jetson-orin", "neoverse-v2", "aarch64")
FOREIGN = ARMS if cpu.architecture() == "x86_64" else ("x86-64-v3", "x86-64-v2")
ACTIVE = Workload.make((1, 2, 2, 5, 16), (3, 3, 3, 1, 16), (1, 4, 4, 10, 1), 2, activation="tanh")


@pytest.fixture
def named(small):
    return [NamedWorkload("net/up", small), NamedWorkload("net/active", ACTIVE)]


@pytest.fixture
def runtime(tmp_path):
    """``runtime(arch)``: files that look like the runtime libraries of an architecture."""

    def write(arch):
        bits, machine = target_runtime._MACHINES[arch]
        head = b"\x7fELF" + bytes([bits]) + bytes(13) + bytes([machine, 0])
        folder = tmp_path / "runtime"
        folder.mkdir()
        for name in (RUNTIME, CUDA_RUNTIME):
            (folder / name).write_bytes(head)
        return folder / RUNTIME

    return write


def build(named, name, output, runtime=None):
    devices = [catalogue.get(name)]
    return build_bundle(named, devices, output, schedules=[], allow_untuned=True, runtime=runtime)


def machine_of(path):
    head = path.read_bytes()[:20]
    return head[4], int.from_bytes(head[18:], "little")


@pytest.mark.parametrize("name", FOREIGN)
def test_bundle_for_another_architecture(name, named, runtime, tmp_path):
    device = catalogue.get(name)
    manifest = build(named, name, tmp_path / "out", runtime(device.arch))
    assert Manifest.read(tmp_path / "out") == manifest
    assert manifest.platform == Platform("llvm", "linux", device.arch)
    (level,) = manifest.levels
    assert (level.mcpu, level.cpu_features) == (device.mcpu, device.cpu_features)
    files = [manifest.runtime.file, *(kernel.library.file for kernel in level.kernels)]
    for file in files:
        assert machine_of(tmp_path / "out" / file) == target_runtime._MACHINES[device.arch]
    assert (tmp_path / "out" / "LICENSE.tvm").is_file()


@pytest.mark.parametrize("name", [*FOREIGN, "armv7"])
def test_kernels_need_an_old_c_library_and_nothing_else(name, named, runtime, tmp_path):
    arch = catalogue.get(name).arch
    build(named, name, tmp_path / "out", runtime(arch))
    for path in (tmp_path / "out").glob("n1_*.so"):
        content = path.read_bytes()
        versions = {int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", content)}
        assert all(minor <= 17 for minor in versions), path.name
        needed = set(re.findall(rb"\0(lib[\w+-]+\.so(?:\.\d+)*)\0", content))
        assert needed <= {b"libm.so.6", b"libc.so.6"}, path.name


def test_without_a_runtime_library_nothing_is_compiled(named, tmp_path, monkeypatch):
    monkeypatch.setenv("TVM_CONV3DT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(target_runtime.sys, "executable", "/bin/false")
    seen = []
    with pytest.raises(LibraryError, match="--runtime PATH"):
        build_bundle(
            named,
            [catalogue.get(FOREIGN[0])],
            tmp_path / "out",
            schedules=[],
            allow_untuned=True,
            on_progress=seen.append,
        )
    assert seen == []
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_bundle_for_armv7_is_of_libraries_alone(named, tmp_path):
    manifest = build(named, "armv7", tmp_path / "out")
    assert manifest.runtime is None
    assert Manifest.read(tmp_path / "out") == manifest
    libraries = {kernel.library.file for kernel in manifest.levels[0].kernels}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"manifest.json", *libraries}
    for file in libraries:
        path = tmp_path / "out" / file
        assert machine_of(path) == target_runtime._MACHINES["armv7"]
        assert path.stat().st_size < 50_000


def test_bundle_for_armv7_is_replaced_by_one_with_a_runtime_library(named, runtime, tmp_path):
    build(named, "armv7", tmp_path / "out")
    manifest = build(named[:1], "armv7", tmp_path / "out", runtime("armv7"))
    assert manifest.runtime.file == RUNTIME
    assert len(list((tmp_path / "out").glob("n1_*.so"))) == 1


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_exponentials_of_float64_are_refused_for_armv7(activation, tmp_path):
    workload = Workload.make((1, 2, 2, 2, 3), (2, 2, 2, 4, 3), (1, 4, 4, 4, 4), 2, dtype="float64")
    named = [NamedWorkload("net/up", replace(workload, activation=activation))]
    with pytest.raises(
        UnsupportedError, match=f"{activation} in float64 is not compiled for armv7"
    ):
        build(named, "armv7", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_gpu_of_a_board_is_called_by_the_boards_cpu(named, runtime, tmp_path):
    any_compiler()
    manifest = build(named[:1], "jetson-orin-gpu", tmp_path / "out", runtime("aarch64"))
    assert manifest.platform == Platform("cuda", "linux", "aarch64")
    (level,) = manifest.levels
    assert (level.gpu_arch, level.mcpu) == ("sm_87", "cortex-a78ae")
    assert level.cpu_features == catalogue.get("jetson-orin").cpu_features
    files = (RUNTIME, CUDA_RUNTIME, level.kernels[0].library.file)
    for file in files:
        assert machine_of(tmp_path / "out" / file) == target_runtime._MACHINES["aarch64"]
