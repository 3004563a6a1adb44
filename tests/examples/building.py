"""Builds the C++ examples by their own CMakeLists.txt, for this machine or another."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "examples" / "cpp"


def build(folder: Path, *, target: str = "", tvm_ffi: Path | None = None) -> Path:
    """Build both programs, `run_layer` and `run_layer_c`, into a folder, and return it.

    This machine's compiler is taken where there is one, else the package ziglang.

    Parameters
    ----------
    folder : Path
        For all that CMake makes.
    target : str
        Another machine, such as ``"aarch64-linux-gnu.2.28"``; by default this one.
    tvm_ffi : Path, optional
        The folder ``tvm_ffi`` of an unpacked wheel for that machine; by default the installed package's.
    """
    options = [f"-DPython_EXECUTABLE={sys.executable}", f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}"]
    compilers = os.environ.get("CXX"), *map(shutil.which, ("c++", "g++", "clang++"))
    if target or not any(compilers):
        options += [f"-DCMAKE_TOOLCHAIN_FILE={SOURCES / 'zig.cmake'}", f"-DZIG_TARGET={target}"]
    if tvm_ffi is not None:
        options.append(f"-DTVM_FFI_DIR={tvm_ffi}")
    for step in (["-G", "Ninja", "-S", SOURCES, "-B", folder, *options], ["--build", folder]):
        done = subprocess.run(
            [_tool("cmake"), *map(str, step)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _tool(name: str) -> str:
    """A program of this environment (extra dev), else the system's."""
    found = shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)
    assert found, f"{name} is not installed: pip install 'tvm-conv3dt[dev]'"
    return found
