"""TVM's runtime library for the machine that a bundle is for.

It is the installed TVM's where that machine is of this one's architecture. Else it comes out of TVM's wheel for the other
architecture, of the same version: libraries of one version call each other's. pip downloads the wheel, once;
what is kept are the libraries, which are a thirtieth of it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import tvm
from filelock import FileLock

from tvm_conv3dt import cpu, paths
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import Conv3dtError, FileWriteError, LibraryError, describe

__all__ = ["CUDA_RUNTIME", "RUNTIME", "place"]

RUNTIME = "libtvm_runtime.so"
"""What all kernels call."""

CUDA_RUNTIME = "libtvm_runtime_cuda.so"
"""What kernels for GPUs need beside it."""

_PACKAGE = "apache-tvm"
# Architectures that TVM has wheels for, and the C library that these are for.
_WHEELS = {"x86_64": "manylinux_2_28", "aarch64": "manylinux_2_28"}
# ELF's numbers of machines, its class (1 is 32 bits, 2 is 64), and where they are.
_MACHINES = {"x86_64": (2, 62), "aarch64": (2, 183), "armv7": (1, 40)}
_ELF, _CLASS_AT, _MACHINE_AT = b"\x7fELF", 4, 18
_SECONDS = 1800


def place(
    folder: Path, device: Device, *, gpu: bool = False, given: Path | None = None
) -> list[Path]:
    """Copy the runtime library for `device` into `folder`.

    Parameters
    ----------
    folder : Path
        Where to copy it to.
    device : Device
        The CPU that calls kernels.
    gpu : bool
        Whether the part that drives GPUs is needed too.
    given : Path, optional
        What to take it from: a libtvm_runtime.so, with libtvm_runtime_cuda.so beside it where that is needed, or
        TVM's wheel. By default the installed TVM, else the cache on disk, else what pip downloads.

    Returns
    -------
    list of Path
        The libraries, that of all kernels first; none where TVM has no wheel for the device and none is given.

    Raises
    ------
    LibraryError
        If what is given is not for the device, or not of this TVM, as far as files tell; or if nothing is given
        and pip cannot download.
    FileWriteError
        If the cache cannot be written.
    """
    wanted = [RUNTIME, CUDA_RUNTIME] if gpu else [RUNTIME]
    if given is not None:
        source = given if zipfile.is_zipfile(given) else given.parent
        found = _take(source, wanted, folder, device.arch, first=given.name)
    elif device.arch == cpu.architecture():
        found = _take(Path(tvm.__file__).parent / "lib", wanted, folder, device.arch)
    elif device.arch in _WHEELS:
        found = _take(_downloaded(device.arch), wanted, folder, device.arch)
    else:
        found = []
    return found


def _take(
    source: Path, wanted: Sequence[str], folder: Path, arch: str, first: str = RUNTIME
) -> list[Path]:
    """Copy libraries from a folder, where `first` is another name for the first one, or from a wheel."""
    if zipfile.is_zipfile(source):
        _unpack(source, wanted, folder)
    else:
        for name in wanted:
            original = source / (first if name == RUNTIME else name)
            if not original.is_file():
                raise _refused(original, "there is no such file", _MEND)
            _require_machine(original, arch)
            shutil.copyfile(original, folder / name)
    for name in wanted:
        _require_machine(folder / name, arch, shown=source)
    return [folder / name for name in wanted]


def _unpack(wheel: Path, wanted: Sequence[str], folder: Path) -> None:
    version = _version()
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = set(archive.namelist())
            if f"{_PACKAGE.replace('-', '_')}-{version}.dist-info/METADATA" not in members:
                rule = f"it is not a wheel of {_PACKAGE} {version}, which is what compiles here"
                raise _refused(wheel, rule, _MEND)
            for name in wanted:
                if f"tvm/lib/{name}" not in members:
                    raise _refused(wheel, f"it holds no {name}", _MEND)
                with archive.open(f"tvm/lib/{name}") as source, (folder / name).open("wb") as out:
                    shutil.copyfileobj(source, out)
    except zipfile.BadZipFile as error:
        raise _refused(wheel, f"it is damaged ({error})", _MEND) from error


def _require_machine(path: Path, arch: str, shown: Path | None = None) -> None:
    """Refuse a file that is no shared library for an architecture, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(_MACHINE_AT + 2)
    if len(head) < _MACHINE_AT + 2 or not head.startswith(_ELF):
        raise _refused(shown or path, f"{path.name} is no shared library", _MEND)
    found = head[_CLASS_AT], int.from_bytes(head[_MACHINE_AT:], "little")
    if found != _MACHINES[arch]:
        names = [name for name, machine in _MACHINES.items() if machine == found]
        other = names[0] if names else f"machine {found[1]}"
        rule = f"{path.name} is for {other}, and the bundle is for {arch}"
        raise _refused(shown or path, rule, _MEND)


def _downloaded(arch: str) -> Path:
    """Return the cache's folder of the libraries for an architecture; they are downloaded if it is not there."""
    folder = paths.user_cache() / "runtime" / f"{_PACKAGE}-{_version()}-{arch}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not folder.is_dir():
                with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
                    wheel = _download(arch, Path(temporary))
                    whole = Path(temporary) / folder.name
                    whole.mkdir()
                    _take(wheel, [RUNTIME, CUDA_RUNTIME], whole, arch)
                    whole.rename(folder)
    except OSError as error:
        if isinstance(error, Conv3dtError):
            raise
        mend = "set TVM_CONV3DT_CACHE to a folder that can be written"
        raise FileWriteError(describe("write", "cache", str(folder), str(error), mend)) from error
    return folder


def _download(arch: str, folder: Path) -> Path:
    version = _version()
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"),
        *("--disable-pip-version-check", "--only-binary", ":all:"),
        *("--platform", f"{_WHEELS[arch]}_{arch}", "--dest", str(folder), f"{_PACKAGE}=={version}"),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
        why = "" if done.returncode == 0 else _reason(done.stderr)
    except subprocess.TimeoutExpired:
        why = f"pip was not done after {_SECONDS} s"
    wheels = list(folder.glob("*.whl"))
    if why or not wheels:
        raise LibraryError(
            describe(
                "download",
                "TVM's runtime library",
                f"{_PACKAGE} {version} for {arch}",
                why or "pip left no wheel",
                "connect this machine to a package index that pip knows and try again, or give the wheel, or its "
                f"{RUNTIME}, with --runtime PATH",
            )
        )
    return wheels[0]


def _reason(printed: str) -> str:
    """Return what pip said last of an error; warnings may follow it."""
    lines = printed.strip().splitlines() or ["pip failed without a word"]
    return next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1])


def _version() -> str:
    try:
        return metadata.version(_PACKAGE)
    except metadata.PackageNotFoundError:  # built from source
        return str(tvm.__version__)


_MEND = (
    "give the wheel of TVM for that architecture, or its libtvm_runtime.so, or leave --runtime out"
)


def _refused(path: Path, rule: str, mend: str) -> LibraryError:
    return LibraryError(describe("take", "TVM's runtime library", str(path), rule, mend))
