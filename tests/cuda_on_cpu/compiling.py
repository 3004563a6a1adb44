"""CUDA C as C++ in a shared library."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

__all__ = ["compile_source", "compilers"]

_DEFINITIONS = Path(__file__).with_name("definitions")

_FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-nostdinc++",
    "-fno-exceptions",
    "-fno-rtti",
    # The source reads vectors from arrays of their elements.
    "-fno-strict-aliasing",
    # Fibers leave their stacks by longjmp.
    "-fno-stack-protector",
    "-U_FORTIFY_SOURCE",
    # As nvcc does.
    "-ffp-contract=fast",
    "-w",
)

# 16-bit floats are newer than some compilers; builtins are asked for by the definitions.
_PROBE = 'extern "C" float f(float x) { return __builtin_bit_cast(float, x) + (_Float16)x; }\n'

_VECTOR_ACCESS = re.compile(
    r"\*\(((?:u?char|u?short|u?int|u?longlong|float|double|half|nv_bfloat16)[1-4])\*\)\("
)


@cache
def compilers() -> tuple[tuple[str, ...], ...]:
    """Return the commands that compile C++ with 16-bit floats here, the first choice first."""
    paths = [path for name in ("g++", "c++", "clang++") if (path := shutil.which(name))]
    # One of these is often another name of another.
    found = [(path,) for path in {str(Path(path).resolve()): path for path in paths}.values()]
    if importlib.util.find_spec("ziglang"):
        # Not `c++`, which would first compile its own standard library.
        found.append((sys.executable, "-m", "ziglang", "cc"))
    return tuple(each for each in found if _works(each))


def _works(compiler: tuple[str, ...]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        return _run(compiler, _PROBE, Path(folder) / "probe.so").returncode == 0


def compile_source(
    source: str, kernels: Iterable[str], arch: str, compiler: tuple[str, ...] | None = None
) -> Path:
    """Compile generated CUDA C to a shared library with ``launch_<kernel>`` for each kernel.

    The library stays in the system's folder for temporary files, under a name made of its content.

    Parameters
    ----------
    source : str
        As TVM generates it.
    kernels : iterable of str
        Their names in the source.
    arch : str
        ``sm_80``, for what the source asks of ``__CUDA_ARCH__``.
    compiler : tuple of str, optional
        A command of `compilers`, by default the first.

    Raises
    ------
    RuntimeError
        If there is no compiler, or it does not take the source.
    """
    if compiler is None:
        if not compilers():
            raise RuntimeError("there is no C++ compiler with 16-bit floats: pip install ziglang")
        compiler = compilers()[0]
    text = "\n".join(
        [
            f"#define __CUDA_ARCH__ {int(re.sub(r'[^0-9]', '', arch)) * 10}",
            "#define __CUDACC_VER_MAJOR__ 13",
            "#define __CUDACC_VER_MINOR__ 0",
            '#include "cuda.h"',
            "#line 1",
            _VECTOR_ACCESS.sub(r"emulation::at<\1>(", source),
            '#include "launch.h"',
            *(f"EMULATED_KERNEL({kernel})" for kernel in sorted(kernels)),
            "",
        ]
    )
    content = hashlib.sha256("\0".join([text, *compiler, *_FLAGS]).encode())
    for each in sorted(_DEFINITIONS.iterdir()):
        content.update(each.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"tvm_conv3dt_cuda_on_cpu-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{content.hexdigest()[:32]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as own:
            output = Path(own) / "kernels.so"
            done = _run(compiler, text, output)
            if done.returncode:
                raise RuntimeError(f"the source does not compile as C++:\n{done.stderr[-4000:]}")
            output.replace(library)
    return library


def _run(compiler: tuple[str, ...], text: str, output: Path) -> subprocess.CompletedProcess[str]:
    source = output.with_suffix(".cc")
    source.write_text(text)
    command = [*compiler, "-x", "c++", *_FLAGS, "-I", str(_DEFINITIONS), "-o", str(output)]
    command += [str(source), "-lm"]
    return subprocess.run(command, capture_output=True, text=True, check=False)
