"""The compilers of CUDA C that this machine has, and what is in what they give."""

import functools
import struct
from collections.abc import Callable

import pytest

from tvm_conv3dt.compiler import nvcc, nvrtc
from tvm_conv3dt.compiler.cuda_binary import CudaBinary
from tvm_conv3dt.compiler.cuda_toolchain import compile_source
from tvm_conv3dt.errors import CompilerMissingError

PTX, MACHINE_CODE = 1, 2
_USAGE_LEVEL = 5  # of registers, ptxas' own

REVERSE = """
extern "C" __global__ void __launch_bounds__(128) reverse(const float* x, float* y) {
  __shared__ float tile[128];
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[127 - threadIdx.x];
}
"""


def with_nvcc() -> Callable[[str, str], CudaBinary]:
    command = nvcc.command()
    reason = nvcc.why_unusable(command) if command else "there is none"
    if reason:
        pytest.skip(f"nvcc: {reason}")
    return functools.partial(nvcc.compile_source, usage_level=_USAGE_LEVEL, nvcc=command)


def with_nvrtc() -> Callable[[str, str], CudaBinary]:
    reason = nvrtc.why_unusable()
    if reason:
        pytest.skip(f"NVRTC: {reason}")
    return functools.partial(nvrtc.compile_source, usage_level=_USAGE_LEVEL)


def any_compiler() -> None:
    try:
        compile_source(REVERSE, "sm_90")
    except CompilerMissingError as error:
        pytest.skip(str(error))


def images(fatbin: bytes) -> list[tuple[int, int]]:
    """Kind and architecture of each image in a fatbin."""
    magic, _, header, size = struct.unpack_from("<IHHQ", fatbin)
    assert magic == 0xBA55ED50
    assert len(fatbin) == header + size
    found, position = [], header
    while position < header + size:
        kind, _, its_header, its_size = struct.unpack_from("<HHIQ", fatbin, position)
        (arch,) = struct.unpack_from("<I", fatbin, position + 28)
        found.append((kind, arch))
        position += its_header + its_size
    return sorted(found)
