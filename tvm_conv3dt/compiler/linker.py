"""Linking objects into a shared library: the system's C compiler, else the one of package ziglang."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tvm_conv3dt import cpu
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import CompilerMissingError, describe

__all__ = ["link", "linker_command"]

# zig links against a chosen glibc: the oldest that NumPy's wheels still support, for older boards.
_ZIG_GLIBC = "2.17"
# Where it has another name for an architecture than the rest of the world.
_ZIG_ARCHITECTURES = {"armv7": "arm"}


def linker_command(device: Device) -> list[str]:
    """Return the command that links for `device`, without its arguments.

    ``CC`` is followed where it is set. For another architecture than this machine's the package
    ``ziglang`` is taken, which links for all of them and against an old C library; else a cross compiler of GNU's.

    Raises
    ------
    CompilerMissingError
        If there is neither a C compiler nor ``ziglang``, or ``CC`` is no command.
    """
    native = device.arch == cpu.architecture()
    if native:
        named = os.environ.get("CC", "").strip()
        if named:
            return _words(named)
        for name in ("cc", "gcc", "clang"):
            found = shutil.which(name)
            if found:
                return [found]
    if importlib.util.find_spec("ziglang"):
        zigs = _ZIG_ARCHITECTURES.get(device.arch, device.arch)
        triple = f"{device.triple.replace(device.arch, zigs, 1)}.{_ZIG_GLIBC}"
        return [sys.executable, "-m", "ziglang", "cc", "-target", triple]
    if not native and (cross := shutil.which(f"{device.triple.replace('armv7', 'arm')}-gcc")):
        return [cross]
    raise CompilerMissingError(
        describe(
            "link",
            "a library",
            device.arch,
            "there is neither a C compiler for it nor the package ziglang",
            "install one of them: pip install 'tvm-conv3dt[compiler]'",
        )
    )


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        mend = "set CC to a working C compiler"
        raise CompilerMissingError(
            describe("read", "environment variable CC", command, str(error), mend)
        ) from error


def link(objects: Sequence[str], output: Path, device: Device) -> None:
    """Link `objects` into the shared library `output`.

    Raises
    ------
    CompilerMissingError
        If no linker is found, or the one found fails: its own message is passed on.
    """
    command = [
        *linker_command(device),
        "-shared",
        "-fPIC",
        "-s",
        "-Wl,--gc-sections",  # of what zig adds to libraries for armv7, kernels call nothing
        "-o",
        str(output),
        *objects,
        "-lm",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CompilerMissingError(
            describe("run", "the linker", command[0], str(error), "set CC to a working C compiler")
        ) from error
    if done.returncode != 0:
        raise CompilerMissingError(
            describe(
                "link",
                "a library",
                shlex.join(command[:2]),
                f"it ended with {done.returncode}: {done.stderr.strip()[-500:]}",
                "set CC to a working C compiler",
            )
        )
