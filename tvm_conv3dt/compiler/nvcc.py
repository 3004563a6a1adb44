"""CUDA C compiled by an installed nvcc."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from tvm_conv3dt.compiler.cuda_binary import (
    CudaBinary,
    ptxas_options,
    refuse,
    require_known,
    virtual_arch,
)
from tvm_conv3dt.errors import CompilerMissingError, describe

__all__ = ["command", "compile_source", "why_unusable"]

_SOURCE = "kernels.cu"  # as messages name it: nvcc runs in its folder
_OUTPUT = "kernels.fatbin"


def command() -> tuple[str, ...]:
    """Return the command that runs nvcc, empty where there is none.

    ``NVCC`` is followed where it is set, then ``CUDA_HOME`` and ``CUDA_PATH``, then ``PATH``.

    Raises
    ------
    CompilerMissingError
        If ``NVCC`` cannot be read as a command.
    """
    named = os.environ.get("NVCC", "").strip()
    if named:
        try:
            return tuple(shlex.split(named))
        except ValueError as error:
            mend = "set NVCC to the path of nvcc"
            raise CompilerMissingError(
                describe("read", "environment variable NVCC", named, str(error), mend)
            ) from error
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        root = os.environ.get(variable, "").strip()
        found = shutil.which(str(Path(root) / "bin" / "nvcc")) if root else None
        if found:
            return (found,)
    found = shutil.which("nvcc")
    return (found,) if found else ()


def why_unusable(nvcc: tuple[str, ...]) -> str:
    """Return why `nvcc` compiles nothing, empty if it does: without a C++ compiler for the host it cannot start."""
    # What PATH finds may change in a process, and the answer with it.
    return _why_unusable(nvcc, os.environ.get("PATH", ""))


@functools.cache
def _why_unusable(nvcc: tuple[str, ...], path: str) -> str:
    try:
        done = _run(nvcc, "-E", "-x", "cu", os.devnull, "-o", os.devnull)
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return ""
    return " ".join(done.stderr.split())[-300:] or f"it ended with {done.returncode}"


def compile_source(source: str, arch: str, usage_level: int, nvcc: tuple[str, ...]) -> CudaBinary:
    """Compile CUDA C with the command `nvcc`: machine code for `arch` (``"sm_90"``) and PTX.

    Raises
    ------
    DeviceError
        If this nvcc does not know `arch`.
    CompileError
        If the source does not compile.
    """
    toolkit, known = _version(nvcc), _run(nvcc, "--list-gpu-code").stdout.split()
    require_known(arch, known, toolkit)
    virtual = virtual_arch(arch)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / _SOURCE).write_text(source, encoding="utf-8")
        done = _run(
            nvcc,
            "--fatbin",
            "-gencode",
            f"arch={virtual},code=[{arch},{virtual}]",
            *("-O3", "-Xptxas", ",".join(ptxas_options(usage_level)), "-o", _OUTPUT, _SOURCE),
            folder=folder,
        )
        if done.returncode != 0:
            raise refuse(done.stderr + done.stdout, arch, toolkit)
        fatbin = (folder / _OUTPUT).read_bytes()
    return CudaBinary.make(fatbin, source, done.stderr + done.stdout, toolkit)


def _version(nvcc: tuple[str, ...]) -> str:
    found = re.search(r"\bV(\d+(?:\.\d+)+)", _run(nvcc, "--version").stdout)
    return f"nvcc {found[1]}" if found else "nvcc of an unknown version"


def _run(
    nvcc: tuple[str, ...], *arguments: str, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*nvcc, *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        cwd=folder,
    )
