"""TVM's modules for CUDA: built without a GPU, they are exported with machine code in the place of sources."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

tvm = pytest.importorskip("tvm")
import tvm_ffi
from tvm import s_tir, te

from tvm_conv3dt import cpu
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.cuda_modules import CudaBuild, cuda_compiler
from tvm_conv3dt.compiler.linker import link, linker_command
from tvm_conv3dt.errors import CompileError, DeviceError

from .cuda_compilers import (
    MACHINE_CODE,
    PTX,
    any_compiler,
    images,
    with_nvcc,
    with_nvrtc,
)

NATIVE = catalogue.get("x86-64-v2" if cpu.architecture() == "x86_64" else "aarch64")


def doubled(dtype: str = "float32") -> tvm.IRModule:
    """``y = x + x`` in blocks of 128 threads."""
    x = te.placeholder((1024,), dtype, name="x")
    y = te.compute((1024,), lambda i: x[i] + x[i], name="y")
    function = te.create_prim_func([x, y]).with_attr("global_symbol", "run")
    schedule = s_tir.Schedule(function)
    (loop,) = schedule.get_loops(schedule.get_sblock("y"))
    block, thread = schedule.split(loop, [None, 128])
    schedule.bind(block, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    return schedule.mod


def target(arch: str) -> tvm.target.Target:
    config = {
        "kind": "cuda",
        "arch": arch,
        "max_threads_per_block": 1024,
        "max_shared_memory_per_block": 49152,
    }
    return tvm.target.Target(config, host={"kind": "llvm"})


def export(module: tvm.runtime.Executable, path: Path | str, build: CudaBuild) -> None:
    """Link with what there is: the system's C compiler or ziglang."""
    module.export_library(
        str(path),
        fcompile=lambda output, objects, **_: link(objects, Path(output), NATIVE),
        fpack_imports=build.pack_imports,
    )


@pytest.mark.parametrize("compiler", [with_nvcc, with_nvrtc], ids=["nvcc", "nvrtc"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_exported_library_holds_the_fatbin(compiler, monkeypatch, tmp_path, dtype):
    monkeypatch.setattr("tvm_conv3dt.compiler.cuda_modules.compile_source", compiler())
    with cuda_compiler("sm_87") as build:
        module = tvm.compile(doubled(dtype), target=target("sm_87"))
    path = tmp_path / "doubled.so"
    export(module, path, build)

    (binary,) = build.binaries.values()
    assert images(binary.fatbin) == [(PTX, 87), (MACHINE_CODE, 87)]
    assert binary.fatbin in path.read_bytes()
    assert b"__global__" not in path.read_bytes()
    (its,) = build.resources
    assert (its.name, its.threads, its.shared_bytes) == ("run_kernel", 128, 0)
    assert its.stack_bytes == 0
    assert build.toolkit == "13.0"


def test_loader_of_cuda_modules_gets_the_fatbin(tmp_path):
    any_compiler()
    if tvm_ffi.get_global_func("ffi.Module.load_from_bytes.cuda", allow_missing=True):
        pytest.skip("the real loader is there")
    with cuda_compiler("sm_90") as build:
        module = tvm.compile(doubled(), target=target("sm_90"))
    path = tmp_path / "doubled.so"
    export(module, path, build)

    given = []

    def load(data: bytes) -> None:
        given.append(bytes(data))
        raise ValueError("that is all")

    tvm_ffi.register_global_func("ffi.Module.load_from_bytes.cuda", load)
    try:
        with pytest.raises(ValueError, match="that is all"):
            tvm.runtime.load_module(str(path))
    finally:
        tvm_ffi.remove_global_func("ffi.Module.load_from_bytes.cuda")
    (binary,) = build.binaries.values()
    fatbin = struct.pack("<Q", len(binary.fatbin)) + binary.fatbin
    assert given[0].startswith(struct.pack("<Q", 5) + b"cubin")
    assert given[0].endswith(fatbin)


def test_module_of_another_build_is_not_exported(tmp_path):
    any_compiler()
    if tvm_ffi.get_global_func("ffi.Module.create.cuda", allow_missing=True):
        pytest.skip("TVM's CUDA runtime is loaded, which compiles at once")
    with cuda_compiler("sm_87") as other:
        pass
    module = tvm.compile(doubled(), target=target("sm_87"))
    with pytest.raises(CompileError, match="was not compiled by this build"):
        export(module, tmp_path / "doubled.so", other)


def test_error_of_the_compiler_keeps_its_class():
    any_compiler()
    with pytest.raises(DeviceError, match="sm_20"), cuda_compiler("sm_20"):
        tvm.compile(doubled(), target=target("sm_87"))


def test_error_of_another_kind_is_left_alone():
    with pytest.raises(ZeroDivisionError), cuda_compiler("sm_87"):
        raise ZeroDivisionError


def test_functions_of_the_process_are_given_back():
    names = ("tvm_callback_cuda_postproc", "tvm_callback_cuda_compile")

    def registered():
        return [tvm_ffi.get_global_func(name, allow_missing=True) for name in names]

    before = registered()
    with pytest.raises(ZeroDivisionError), cuda_compiler("sm_87"):
        assert all(registered())
        raise ZeroDivisionError
    for former, now in zip(before, registered(), strict=True):
        assert (now is None) if former is None else now.same_as(former)


# A driver's library with nothing in it lets TVM's CUDA runtime be loaded where there is no GPU.
WITH_RUNTIME = """
import tvm, tvm_ffi
from tests.compiler.test_cuda_modules import cuda_compiler, doubled, export, target
assert tvm_ffi.get_global_func("ffi.Module.create.cuda")
with cuda_compiler("sm_87") as build:
    module = tvm.compile(doubled(), target=target("sm_87"))
(binary,) = build.binaries.values()
export(module, "doubled.so", build)
assert binary.fatbin in open("doubled.so", "rb").read()
(loaded,) = tvm.runtime.load_module("doubled.so").imports
assert loaded.kind == "cuda"
"""


@pytest.mark.slow
def test_tvms_cuda_runtime_takes_the_fatbin(tmp_path):
    with_nvrtc()
    from cuda import pathfinder

    cudart = pathfinder.load_nvidia_dynamic_lib("cudart").abs_path
    root = Path(__file__).resolve().parents[2]
    sidecar = Path(tvm.__file__).parent / "lib" / "libtvm_runtime_cuda.so"
    if not sidecar.is_file():
        pytest.skip("this TVM has no CUDA runtime")
    names = {name.decode() for name in re.findall(rb"\bcu[A-Z]\w+", sidecar.read_bytes())}
    code = "".join(f"int {name}(void) {{ return 100; }}\n" for name in sorted(names))
    (tmp_path / "driver.c").write_text(code)
    subprocess.run(
        [*linker_command(NATIVE), "-shared", "-fPIC", "-o", "libcuda.so.1", "driver.c"],
        cwd=tmp_path,
        check=True,
    )
    folders = [str(tmp_path), str(Path(cudart).parent)]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(folders),
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", WITH_RUNTIME],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
