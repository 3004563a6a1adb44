"""CUDA C where there is no GPU: what nvcc and NVRTC give, and what is said when neither can."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt.compiler import nvcc, nvrtc
from tvm_conv3dt.compiler.cuda_binary import CudaBinary, read_resources
from tvm_conv3dt.compiler.cuda_toolchain import compile_source
from tvm_conv3dt.errors import CompileError, CompilerMissingError, DeviceError
from tvm_conv3dt.gpu import KernelResources

from .cuda_compilers import (
    MACHINE_CODE,
    PTX,
    REVERSE,
    images,
    with_nvcc,
    with_nvrtc,
)

HALF = """
#include <cuda_fp16.h>
extern "C" __global__ void __launch_bounds__(64) half_sum(const half* x, half* y) {
  y[threadIdx.x] = __hadd(x[threadIdx.x], y[threadIdx.x]);
}
"""

TENSOR_CORES = """
#include <mma.h>
using namespace nvcuda;
extern "C" __global__ void __launch_bounds__(32) multiply(const half* a, const half* b, float* c) {
  wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> left;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::row_major> right;
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
  wmma::fill_fragment(sum, 0.0f);
  wmma::load_matrix_sync(left, a, 16);
  wmma::load_matrix_sync(right, b, 16);
  wmma::mma_sync(sum, left, right, sum);
  wmma::store_matrix_sync(c, sum, 16, wmma::mem_row_major);
}
"""

# 64 values that live across a barrier, and 32 registers for each of two blocks' 1024 threads.
SPILLING = """
extern "C" __global__ void __launch_bounds__(1024, 2) spilling(const float* x, float* y) {
  float values[64];
  #pragma unroll
  for (int i = 0; i < 64; ++i) values[i] = x[i * 1024 + threadIdx.x];
  __syncthreads();
  #pragma unroll
  for (int i = 0; i < 64; ++i) y[i * 1024 + threadIdx.x] = values[63 - i];
}
"""

INDEXED = """
extern "C" __global__ void __launch_bounds__(32) indexed(const int* at, float* y) {
  float values[64];
  for (int i = 0; i < 64; ++i) values[at[i]] = at[i + 64];
  y[threadIdx.x] = values[at[threadIdx.x]];
}
"""

TOO_MUCH_SHARED = """
extern "C" __global__ void large(float* y) {
  __shared__ float tile[20000];
  tile[threadIdx.x] = y[threadIdx.x];
  __syncthreads();
  y[0] = tile[3];
}
"""


@pytest.fixture(params=[with_nvcc, with_nvrtc], ids=["nvcc", "nvrtc"])
def compile_cuda(request) -> Callable[[str, str], CudaBinary]:
    """Each of the compilers that this machine has."""
    return request.param()


@pytest.fixture
def no_nvcc(monkeypatch, tmp_path):
    for variable in ("NVCC", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def no_nvrtc(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)


@pytest.fixture
def broken_nvcc(tmp_path) -> Path:
    """An nvcc that ends as nvcc does where there is no C++ compiler."""
    path = tmp_path / "nvcc"
    path.write_text("#!/bin/sh\necho 'nvcc fatal   : no host compiler' >&2\nexit 1\n")
    path.chmod(0o755)
    return path


# What both compilers give


@pytest.mark.parametrize("number", [75, 87, 90, 100])
def test_fatbin_holds_ptx_and_machine_code(compile_cuda, number):
    binary = compile_cuda(REVERSE, f"sm_{number}")
    assert images(binary.fatbin) == [(PTX, number), (MACHINE_CODE, number)]


def test_resources_are_told(compile_cuda):
    (its,) = compile_cuda(REVERSE, "sm_90").resources
    assert (its.name, its.threads, its.shared_bytes, its.spill_bytes) == ("reverse", 128, 512, 0)
    assert 1 <= its.registers <= 255


def test_kernels_are_told_in_the_sources_order(compile_cuda):
    binary = compile_cuda(REVERSE + HALF, "sm_87")
    assert [each.name for each in binary.resources] == ["reverse", "half_sum"]
    assert [each.threads for each in binary.resources] == [128, 64]


@pytest.mark.parametrize("source", [HALF, TENSOR_CORES], ids=["half", "tensor_cores"])
def test_headers_of_half_types_are_found(compile_cuda, source):
    (its,) = compile_cuda(source, "sm_75").resources
    assert its.spill_bytes == 0


def test_spills_are_told(compile_cuda):
    (its,) = compile_cuda(SPILLING, "sm_90").resources
    assert its.registers == 32
    assert its.spill_bytes > 0
    assert its.stack_bytes > 0


def test_array_that_is_indexed_by_a_variable_is_on_the_stack(compile_cuda):
    (its,) = compile_cuda(INDEXED, "sm_90").resources
    assert (its.stack_bytes, its.spill_bytes) == (256, 0)


def test_compilers_of_one_version_agree():
    first, second = with_nvcc()(REVERSE, "sm_90"), with_nvrtc()(REVERSE, "sm_90")
    if first.toolkit.split()[1] != second.toolkit.split()[1]:
        pytest.skip(f"{first.toolkit} and {second.toolkit}")
    assert first.resources == second.resources


def test_first_error_is_passed_on(compile_cuda):
    with pytest.raises(CompileError, match=r"kernels\.cu\(3\): error: identifier \"tile\""):
        compile_cuda(REVERSE.replace("__shared__ float tile[128];\n", ""), "sm_90")


def test_error_of_the_assembler_is_passed_on(compile_cuda):
    with pytest.raises(CompileError, match="'large' uses too much shared data"):
        compile_cuda(TOO_MUCH_SHARED, "sm_90")


@pytest.mark.parametrize("arch", ["sm_20", "compute_90", "90", "sm_90 -o x"])
def test_unknown_architecture_is_refused_with_the_version(compile_cuda, arch):
    with pytest.raises(
        DeviceError, match=rf"with {arch}: (nvcc|NVRTC) \d+\.\d+.* compiles for .*sm_90"
    ):
        compile_cuda(REVERSE, arch)


# What is read of a report


def test_kernel_that_the_report_lacks_is_an_error():
    with pytest.raises(CompileError, match="kernel with reverse"):
        read_resources(REVERSE, "ptxas info    : 0 bytes gmem")


def test_spills_of_called_functions_count_for_their_kernel():
    report = """
ptxas info    : Compiling entry function 'reverse' for 'sm_90'
ptxas info    : Function properties for reverse
    8 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 512 bytes smem
ptxas info    : Function properties for called
    8 bytes stack frame, 16 bytes spill stores, 32 bytes spill loads
"""
    assert read_resources(REVERSE, report) == (KernelResources("reverse", 128, 40, 512, 60, 8),)


def test_kernel_without_launch_bounds_has_one_thread():
    source = 'extern "C" __global__ void one(float* x) {}'
    report = "Compiling entry function 'one' for 'sm_90'\nUsed 4 registers"
    assert read_resources(source, report) == (KernelResources("one", 1, 4, 0, 0, 0),)


# Which compiler is taken


def test_nvcc_is_followed_with_its_options(monkeypatch):
    monkeypatch.setenv("NVCC", "ccache 'my nvcc' -ccbin g++")
    assert nvcc.command() == ("ccache", "my nvcc", "-ccbin", "g++")


def test_nvcc_that_cannot_be_read_is_an_error(monkeypatch):
    monkeypatch.setenv("NVCC", "'nvcc")
    with pytest.raises(CompilerMissingError, match="NVCC with 'nvcc"):
        nvcc.command()


@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH"])
def test_nvcc_of_a_named_toolkit_is_found(no_nvcc, monkeypatch, tmp_path, variable):
    path = tmp_path / "toolkit" / "bin" / "nvcc"
    path.parent.mkdir(parents=True)
    path.touch(mode=0o755)
    monkeypatch.setenv(variable, str(tmp_path / "toolkit"))
    assert nvcc.command() == (str(path),)


def test_nvcc_is_found_on_the_path(no_nvcc, broken_nvcc):
    assert nvcc.command() == (str(broken_nvcc),)


def test_nvrtc_is_taken_where_there_is_no_nvcc(no_nvcc):
    with_nvrtc()
    assert compile_source(REVERSE, "sm_90").toolkit.startswith("NVRTC ")


def test_nvrtc_is_taken_where_nvcc_does_not_work(no_nvcc, broken_nvcc):
    with_nvrtc()
    assert compile_source(REVERSE, "sm_90").toolkit.startswith("NVRTC ")


def test_named_nvcc_that_does_not_work_is_an_error(monkeypatch, broken_nvcc):
    monkeypatch.setenv("NVCC", str(broken_nvcc))
    with pytest.raises(CompilerMissingError, match="no host compiler; set NVCC"):
        compile_source(REVERSE, "sm_90")


def test_named_nvcc_that_is_not_there_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("NVCC", str(tmp_path / "nvcc"))
    with pytest.raises(CompilerMissingError, match="No such file"):
        compile_source(REVERSE, "sm_90")


def test_no_compiler_is_an_error_that_says_what_mends_it(no_nvcc, no_nvrtc):
    with pytest.raises(CompilerMissingError) as caught:
        compile_source(REVERSE, "sm_90")
    message = str(caught.value)
    assert "there is no nvcc in NVCC, CUDA_HOME, CUDA_PATH or PATH" in message
    assert "package cuda-bindings is missing" in message
    assert message.endswith("; pip install 'tvm-conv3dt[cuda]'")


def test_nvcc_that_does_not_work_is_told_where_nvrtc_is_missing(no_nvcc, no_nvrtc, broken_nvcc):
    with pytest.raises(CompilerMissingError, match=r"nvcc does not work .*no host compiler"):
        compile_source(REVERSE, "sm_90")


@pytest.mark.parametrize(
    ("lacking", "package"),
    [("cudart", "nvidia-cuda-runtime"), ("cccl", "nvidia-cuda-cccl")],
)
def test_missing_headers_are_told(monkeypatch, lacking, package):
    with_nvrtc()
    from cuda import pathfinder

    find = pathfinder.find_nvidia_header_directory
    monkeypatch.setattr(
        pathfinder,
        "find_nvidia_header_directory",
        lambda name: None if name == lacking else find(name),
    )
    assert package in nvrtc.why_unusable()


# What is compiled again


@pytest.fixture
def tries(monkeypatch):
    """``tries(spills)`` lets nvcc spill as many bytes as ``spills(source, level)`` says, and lists what it was given."""

    def tries(spills: Callable[[str, int], int]) -> list[tuple[str, int]]:
        given = []

        def compiled(source: str, arch: str, usage_level: int, command: object) -> CudaBinary:
            given.append((source, usage_level))
            resources = KernelResources("reverse", 128, 32, 512, spills(source, usage_level), 0)
            return CudaBinary(b"", (resources,), "nvcc 13.0.88")

        monkeypatch.setattr(nvcc, "compile_source", compiled)
        monkeypatch.setattr(nvcc, "command", lambda: ("nvcc",))
        monkeypatch.setattr(nvcc, "why_unusable", lambda command: "")
        return given

    return tries


def test_source_that_spills_nothing_is_compiled_once(tries):
    given = tries(lambda source, level: 0)
    compile_source(REVERSE, "sm_90")
    assert given == [(REVERSE, 5)]


def test_source_that_spills_is_compiled_again_with_registers_used_more_freely(tries):
    given = tries(lambda source, level: 8 * (level < 10))
    assert compile_source(REVERSE, "sm_90").spill_bytes == 0
    assert given == [(REVERSE, 5), (REVERSE, 10)]


def test_last_resort_is_one_block_at_a_time(tries):
    given = tries(lambda source, level: 0 if "__launch_bounds__(128, 1)" in source else 8)
    assert compile_source(REVERSE, "sm_90").spill_bytes == 0
    assert len(given) == 3


def test_least_spills_are_taken_where_there_are_some_anyway(tries):
    tries(lambda source, level: 4 if level == 10 else 8)
    assert compile_source(REVERSE, "sm_90").spill_bytes == 4
