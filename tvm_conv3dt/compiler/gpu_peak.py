"""The peaks of a GPU: kernels that multiply and add in registers and do nothing else.

As `peak` for CPUs, one for float32 and one for products of float16 by tensor cores, with the instructions that kernels
here use: a library that has others for newer architectures may be faster than the latter.
"""

from __future__ import annotations

from tvm_conv3dt.compiler.cuda_toolchain import CudaBinary, compile_source

__all__ = [
    "BLOCKS",
    "FMA",
    "MATRIX",
    "STEPS",
    "THREADS",
    "compile_peaks",
    "operations",
    "sums_bytes",
]

FMA, MATRIX = "peak_fma", "peak_matrix"
"""The kernels' names; both take ``(state, steps)`` with float32 state of `sums_bytes`."""

THREADS = 256
BLOCKS = 2
"""Of one multiprocessor: every scheduler has four warps, each of them with enough that does not wait for its own results."""

STEPS = {FMA: 1 << 10, MATRIX: 1 << 12}
"""Turns of the kernel's loop that take some milliseconds at most."""

_SUMS, _TURNS = 16, 8  # of one thread, and how often each is changed in one turn
_TILES, _SQUARE = 2, 16  # of one warp, along both sides, and elements of a side
_WARP = 32

# x + x * -2 == -x: see `peak`. Sums on tensor cores begin at zero in each launch. All sums differ, and what they are made
# of comes from memory: a compiler would else compute one of them, or none.
_SOURCE = f"""
#include <cuda_fp16.h>
#include <mma.h>
using namespace nvcuda;

extern "C" __global__ void __launch_bounds__({THREADS}) {FMA}(float* state, int steps) {{
  float* own = state + (blockIdx.x * {THREADS} + threadIdx.x) * {_SUMS};
  float factor = own[0] * 0.0f - 2.0f;
  float sums[{_SUMS}];
#pragma unroll
  for (int i = 0; i < {_SUMS}; ++i) sums[i] = own[i];
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {{
#pragma unroll
    for (int turn = 0; turn < {_TURNS}; ++turn) {{
#pragma unroll
      for (int i = 0; i < {_SUMS}; ++i) sums[i] = sums[i] * factor + sums[i];
    }}
  }}
#pragma unroll
  for (int i = 0; i < {_SUMS}; ++i) own[i] = sums[i];
}}

extern "C" __global__ void __launch_bounds__({THREADS}) {MATRIX}(float* state, int steps) {{
  int warp = (blockIdx.x * {THREADS} + threadIdx.x) / {_WARP};
  float* own = state + warp * {_TILES * _TILES * _SQUARE * _SQUARE};
  float value = own[0] * 0.0f + 0.5f;
  wmma::fragment<wmma::matrix_a, {_SQUARE}, {_SQUARE}, {_SQUARE}, half, wmma::row_major> a[{_TILES}];
  wmma::fragment<wmma::matrix_b, {_SQUARE}, {_SQUARE}, {_SQUARE}, half, wmma::row_major> b[{_TILES}];
  wmma::fragment<wmma::accumulator, {_SQUARE}, {_SQUARE}, {_SQUARE}, float> sums[{_TILES * _TILES}];
#pragma unroll
  for (int i = 0; i < {_TILES}; ++i) {{
    wmma::fill_fragment(a[i], __float2half(value * (i + 1)));
    wmma::fill_fragment(b[i], __float2half(value * (i + 2)));
  }}
#pragma unroll
  for (int i = 0; i < {_TILES * _TILES}; ++i) wmma::fill_fragment(sums[i], 0.0f);
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {{
#pragma unroll
    for (int i = 0; i < {_TILES}; ++i) {{
#pragma unroll
      for (int j = 0; j < {_TILES}; ++j) {{
        wmma::mma_sync(sums[i * {_TILES} + j], a[i], b[j], sums[i * {_TILES} + j]);
      }}
    }}
  }}
#pragma unroll
  for (int i = 0; i < {_TILES * _TILES}; ++i) {{
    wmma::store_matrix_sync(
        own + i * {_SQUARE * _SQUARE}, sums[i], {_SQUARE}, wmma::mem_row_major);
  }}
}}
"""


def source() -> str:
    """Return the CUDA C of both kernels."""
    return _SOURCE


def compile_peaks(arch: str) -> CudaBinary:
    """Compile both kernels for one architecture, and for later ones as PTX.

    Raises
    ------
    CompilerMissingError, DeviceError, CompileError
        As `compile_source`.
    """
    return compile_source(_SOURCE, arch)


def operations(kernel: str, blocks: int, steps: int) -> int:
    """Return the operations of one launch, 2 per multiply-add."""
    threads = blocks * THREADS
    if kernel == FMA:
        return 2 * threads * _SUMS * _TURNS * steps
    return 2 * threads // _WARP * _TILES**2 * _SQUARE**3 * steps


def sums_bytes(blocks: int) -> int:
    """Return the bytes of the state that either kernel takes."""
    by_threads = blocks * THREADS * _SUMS
    by_warps = blocks * THREADS // _WARP * (_TILES * _SQUARE) ** 2
    return 4 * max(by_threads, by_warps)
