"""Compiling CUDA C where there is no GPU: nvcc where it is installed, else NVRTC of PyPI."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from tvm_conv3dt.compiler import nvcc, nvrtc
from tvm_conv3dt.compiler.cuda_binary import CudaBinary
from tvm_conv3dt.errors import CompilerMissingError, describe

__all__ = ["CudaBinary", "compile_source"]

_BOUNDS = re.compile(r"__launch_bounds__\((\d+)\)")

# Of ptxas, its own first. It spills a few registers at times to be just below a number that lets more threads run.
_USAGE_LEVELS = (5, 10)

_MEND = "pip install 'tvm-conv3dt[cuda]'"


def compile_source(source: str, arch: str) -> CudaBinary:
    """Compile CUDA C for one architecture of GPUs, and for later ones as PTX.

    Parameters
    ----------
    source : str
        Kernels that are ``extern "C"``.
    arch : str
        As CUDA names it: ``"sm_90"``.

    Returns
    -------
    CudaBinary
        What a CUDA driver loads, and the resources of each kernel.

    Raises
    ------
    CompilerMissingError
        If there is neither an nvcc that works nor NVRTC, or ``NVCC`` names one that does not work.
    DeviceError
        If the compiler does not know `arch`.
    CompileError
        If the source does not compile.
    """
    command = nvcc.command()
    named = bool(os.environ.get("NVCC", "").strip())
    if command:
        reason = nvcc.why_unusable(command)
        if not reason:
            return _without_spills(
                source, lambda each, level: nvcc.compile_source(each, arch, level, command)
            )
        if named:
            mend = f"set NVCC to an nvcc that works, with a C++ compiler beside it, or unset it and {_MEND}"
            raise CompilerMissingError(
                describe("run", "the CUDA compiler of NVCC", command[0], reason, mend)
            )
        nvccs = f"{command[0]} does not work ({reason})"
    else:
        nvccs = "there is no nvcc in NVCC, CUDA_HOME, CUDA_PATH or PATH"
    lacking = nvrtc.why_unusable()
    if not lacking:
        return _without_spills(source, lambda each, level: nvrtc.compile_source(each, arch, level))
    rule = f"{nvccs}, and NVRTC cannot be used: {lacking}"
    raise CompilerMissingError(describe("compile", "CUDA C", arch, rule, _MEND))


def _without_spills(source: str, compile_at: Callable[[str, int], CudaBinary]) -> CudaBinary:
    """Return the first binary that spills nothing, or else the one that spills least."""
    # That one block at a time will do is what ptxas believes, and it costs threads: the last resort.
    alone = _BOUNDS.sub(r"__launch_bounds__(\1, 1)", source)
    binaries = []
    for each, level in [*((source, level) for level in _USAGE_LEVELS), (alone, _USAGE_LEVELS[0])]:
        binaries.append(compile_at(each, level))
        if not binaries[-1].spill_bytes:
            break
    return min(binaries, key=lambda binary: binary.spill_bytes)
