"""CUDA C compiled by NVRTC, a library of PyPI: no toolkit and no C++ compiler need be installed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tvm_conv3dt.compiler.cuda_binary import (
    CudaBinary,
    ptxas_options,
    refuse,
    require_known,
    virtual_arch,
)
from tvm_conv3dt.errors import CompileError, describe

__all__ = ["compile_source", "why_unusable"]

_SOURCE = b"kernels.cu"  # as messages name it

# What sources include, and the package that brings it.
_HEADERS = {
    "cuda_fp16.h": "nvidia-cuda-runtime",
    "crt/mma.h": "nvidia-cuda-crt",
    "cuda/std/cstdint": "nvidia-cuda-cccl",
}


def why_unusable() -> str:
    """Return what NVRTC lacks, empty if it can compile: a package, a library or headers."""
    try:
        nvrtc, nvfatbin = _bindings()
        _checked(nvrtc, nvrtc.nvrtcVersion())
        nvfatbin.version()
    except ImportError as error:
        return f"package cuda-bindings is missing ({error})"
    except Exception as error:  # what the bindings raise differs by their version
        return " ".join(str(error).split())[:300]
    folders = _include_folders()
    for header, package in _HEADERS.items():
        if not any((folder / header).is_file() for folder in folders):
            return f"header {header} of package {package} is missing"
    return ""


def compile_source(source: str, arch: str, usage_level: int) -> CudaBinary:
    """Compile CUDA C: machine code for `arch` (``"sm_90"``) and PTX.

    Raises
    ------
    DeviceError
        If this NVRTC does not know `arch`.
    CompileError
        If the source does not compile.
    """
    nvrtc, nvfatbin = _bindings()
    major, minor = _checked(nvrtc, nvrtc.nvrtcVersion())
    toolkit = f"NVRTC {major}.{minor}"
    (known,) = _checked(nvrtc, nvrtc.nvrtcGetSupportedArchs())
    require_known(arch, [f"sm_{number}" for number in known], toolkit)
    cubin, ptx, log = _compile(nvrtc, source, arch, usage_level, toolkit)
    # The library tells its version by two numbers; what it writes, by three.
    if found := re.search(rb"Cuda compilation tools, release [\d.]+, V(\d+(?:\.\d+)+)", ptx):
        toolkit = f"NVRTC {found[1].decode()}"
    return CudaBinary.make(_join(nvfatbin, cubin, ptx, arch), source, log, toolkit)


def _bindings() -> tuple[Any, Any]:
    from cuda.bindings import nvfatbin, nvrtc

    return nvrtc, nvfatbin


def _include_folders() -> list[Path]:
    """Where the headers are: in the installed packages, else in a toolkit that is found."""
    from cuda import pathfinder

    found = [pathfinder.find_nvidia_header_directory(name) for name in ("cudart", "cccl")]
    return [Path(folder) for folder in found if folder]


def _compile(
    nvrtc: Any, source: str, arch: str, usage_level: int, toolkit: str
) -> tuple[bytes, bytes, str]:
    """Return machine code, PTX, and what was said while they were made."""
    # Compiled for a real architecture, a program has PTX for the virtual one too.
    options = [f"--gpu-architecture={arch}"]
    options += [f"--ptxas-options={option}" for option in ptxas_options(usage_level)]
    options += [f"--include-path={folder}" for folder in _include_folders()]
    (program,) = _checked(nvrtc, nvrtc.nvrtcCreateProgram(source.encode(), _SOURCE, 0, [], []))
    try:
        (code,) = nvrtc.nvrtcCompileProgram(
            program, len(options), [option.encode() for option in options]
        )
        log = _read(nvrtc, program, "ProgramLog").decode(errors="replace")
        if code != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise refuse(log, arch, toolkit)
        return _read(nvrtc, program, "CUBIN"), _read(nvrtc, program, "PTX"), log
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _read(nvrtc: Any, program: Any, what: str) -> bytes:
    (size,) = _checked(nvrtc, getattr(nvrtc, f"nvrtcGet{what}Size")(program))
    buffer = bytearray(size)
    _checked(nvrtc, getattr(nvrtc, f"nvrtcGet{what}")(program, buffer))
    return bytes(buffer)


def _checked(nvrtc: Any, result: Sequence[Any]) -> Sequence[Any]:
    """Return what a function gave besides its status."""
    code, *values = result
    if code != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise CompileError(describe("compile", "CUDA C", "NVRTC", f"it answered {code.name}"))
    return values


def _join(nvfatbin: Any, cubin: bytes, ptx: bytes, arch: str) -> bytes:
    number = arch.removeprefix("sm_")
    handle = nvfatbin.create([], 0)
    try:
        nvfatbin.add_cubin(handle, cubin, len(cubin), number, arch)
        nvfatbin.add_ptx(handle, ptx, len(ptx), number, virtual_arch(arch), "")
        joined = bytearray(nvfatbin.size(handle))
        nvfatbin.get(handle, joined)
    finally:
        nvfatbin.destroy(handle)
    return bytes(joined)
