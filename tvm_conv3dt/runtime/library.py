"""Shared libraries: checked first, then loaded, each once per process."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import tvm_ffi

from tvm_conv3dt import cudart, files
from tvm_conv3dt.errors import FileFormatError, LibraryError, describe
from tvm_conv3dt.level import LibraryFile
from tvm_conv3dt.locks import Lock
from tvm_conv3dt.manifest import Manifest

__all__ = ["Library", "check_content", "check_present", "load_library", "load_runtime"]

_lock = Lock()
# Functions that libtvm_runtime and libtvm_runtime_cuda register with tvm-ffi.
_MARK = "runtime.config_threadpool"
_CUDA_MARK = "device_api.cuda"


@dataclass(frozen=True)
class _LoadedRuntime:
    tvm: str
    path: str


class _Process:
    """What this process has loaded."""

    runtime: _LoadedRuntime | None = None


class Library:
    """A loaded kernel library; its functions keep it loaded."""

    def __init__(self, path: Path, sha256: str) -> None:
        self.path = path
        self.sha256 = sha256
        try:
            self._module = tvm_ffi.load_module(str(path))
        except Exception as error:  # tvm-ffi's classes for this changed between its releases
            raise _refuse(path, "the system's loader refused it", str(error)) from error

    def function(self, symbol: str) -> Any:
        """Return the function of that name.

        Raises
        ------
        LibraryError
            If the library has none.
        """
        try:
            return self._module.get_function(symbol)
        except Exception as error:
            raise _refuse(self.path, f"it has no function {symbol}") from error


_libraries: WeakValueDictionary[str, Library] = WeakValueDictionary()


def check_present(folder: Path, library: LibraryFile) -> Path:
    """Check that a library of a bundle is there, with its right size, and return its path.

    Raises
    ------
    LibraryError
        If it is missing, or has another size than the manifest says.
    """
    path = folder / library.file
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise _refuse(path, error.strerror or str(error)) from error
    if size is None:
        raise _refuse(path, "the file is missing", mend=_RENEW)
    if size != library.bytes:
        rule = f"it has {size} bytes and the manifest says {library.bytes}"
        raise _refuse(path, rule, mend=_RENEW)
    return path


def check_content(folder: Path, library: LibraryFile) -> Path:
    """Check a library of a bundle as `check_present`, and its SHA-256, and return its path.

    Raises
    ------
    LibraryError
        If it is missing, unreadable, or not what the manifest says.
    """
    path = check_present(folder, library)
    try:
        found = files.sha256(path)
    except FileFormatError as error:
        raise _refuse(path, str(error)) from error
    if found != library.sha256:
        rule = f"its SHA-256 is {found} and the manifest says {library.sha256}"
        raise _refuse(path, rule, mend=_RENEW)
    return path


def load_library(folder: Path, library: LibraryFile) -> Library:
    """Check and load a kernel library; `load_runtime` must have run.

    Parameters
    ----------
    folder : Path
        The bundle's folder.
    library : LibraryFile
        Its entry in the manifest.

    Returns
    -------
    Library
        The one that is loaded already, where this process holds it.

    Raises
    ------
    LibraryError
        If it is missing, modified or not loadable; or if the process still runs an older file of this name.
    """
    with _lock:
        path = check_content(folder, library).resolve()
        loaded = _libraries.get(str(path))
        if loaded is None:
            loaded = _libraries[str(path)] = Library(path, library.sha256)
        elif loaded.sha256 != library.sha256:
            # The system's loader knows files by their names, and would hand out the old code.
            raise _refuse(
                path,
                "the bundle was built again, and this process still uses the former library",
                mend="drop its operators first, or build into another folder",
            )
        return loaded


def load_runtime(folder: Path, manifest: Manifest) -> None:
    """Make sure that this process has TVM's runtime library, exactly once.

    A second copy would end the process. So one that is here already is used, whoever loaded
    it; and where the installed `tvm` holds the very same file as the bundle, that is
    loaded, so that `tvm` can still be imported later. The same holds for the part that drives GPUs, where the
    bundle has it; the CUDA runtime library, which that needs, is loaded before.

    Parameters
    ----------
    folder : Path
        The bundle's folder.
    manifest : Manifest
        The bundle's manifest.

    Raises
    ------
    LibraryError
        If the bundle has none, or its copy is missing, modified or not loadable, or the process holds another
        TVM's; or if a bundle for GPUs needs a CUDA runtime library that is not found.
    """
    if manifest.runtime is None:
        raise _without_runtime(folder, manifest)
    with _lock:
        check_content(folder, manifest.runtime)
        held = _is_registered(_MARK)
        if held:
            _check_same_tvm(manifest)
        cuda = manifest.cuda
        if cuda is not None:
            check_content(folder, cuda.library)
            if not _is_registered(_CUDA_MARK):
                cudart.load(cuda.cudart)
        if not held:
            path = _load_once(folder, manifest.runtime, manifest.tvm, ctypes.RTLD_GLOBAL)
            _Process.runtime = _LoadedRuntime(manifest.tvm, str(path))
        if cuda is not None and not _is_registered(_CUDA_MARK):
            path = _load_once(folder, cuda.library, manifest.tvm, ctypes.RTLD_LOCAL)
            if not _is_registered(_CUDA_MARK):
                raise _refuse(path, "it is not the part of TVM's runtime that drives GPUs")


def _without_runtime(folder: Path, manifest: Manifest) -> LibraryError:
    return LibraryError(
        describe(
            "load",
            "bundle",
            str(folder),
            f"it holds no runtime library of TVM: for {manifest.platform.arch} there is none to download, and its "
            "libraries are for C and C++ programs that bring their own",
            "build the bundle again with --runtime PATH, a libtvm_runtime.so for this machine",
        )
    )


def _is_registered(function: str) -> bool:
    return tvm_ffi.get_global_func(function, allow_missing=True) is not None


def _load_once(folder: Path, library: LibraryFile, tvm: str, mode: int) -> Path:
    """Load a library of TVM's runtime, and see to it that no `import tvm` loads another copy."""
    # Absolute: the system's loader looks for a name without a folder in its own places.
    path, installed = (folder / library.file).absolute(), _installed(library.file)
    if installed is not None and _is_same(installed, library):
        path = installed
    try:
        ctypes.CDLL(str(path), mode)
    except OSError as error:
        raise _refuse(path, "the system's loader refused it", str(error)) from error
    if installed is not None and path != installed:
        sys.meta_path.insert(0, _ImportRefused(_LoadedRuntime(tvm, str(path))))
    return path


def _check_same_tvm(manifest: Manifest) -> None:
    if _Process.runtime is not None:
        held, origin = _Process.runtime.tvm, _Process.runtime.path
    else:
        module = sys.modules.get("tvm")
        held = str(getattr(module, "__version__", manifest.tvm))
        origin = str(getattr(module, "__file__", "unknown"))
    if held != manifest.tvm:
        raise LibraryError(
            describe(
                "load",
                "bundle",
                f"TVM {manifest.tvm}",
                f"this process already holds the runtime library of TVM {held} ({origin})",
                "load the bundle in a process of its own, or build it again",
            )
        )


def _installed(file: str) -> Path | None:
    # Where `import tvm` would take it from, without importing it.
    try:
        spec = importlib.util.find_spec("tvm")
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = [Path(place) / "lib" for place in spec.submodule_search_locations or ()]
    if own := os.environ.get("TVM_LIBRARY_PATH"):
        folders.insert(0, Path(own))
    candidates = (folder / file for folder in folders)
    return next((path for path in candidates if path.is_file()), None)


def _is_same(path: Path, library: LibraryFile) -> bool:
    try:
        return path.stat().st_size == library.bytes and files.sha256(path) == library.sha256
    except (OSError, FileFormatError):
        return False


class _ImportRefused(MetaPathFinder):
    """Refuses to import a `tvm` whose runtime library differs from the loaded one: it would abort."""

    def __init__(self, loaded: _LoadedRuntime) -> None:
        self._loaded = loaded

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "tvm":
            raise ImportError(
                describe(
                    "import",
                    "module tvm",
                    f"runtime library {self._loaded.path}",
                    f"a bundle of TVM {self._loaded.tvm} brought it, and the installed tvm has another",
                    "import tvm before loading the bundle, or use a process of its own",
                ),
                name=fullname,
            )


_RENEW = "copy or build the bundle again"


def _refuse(path: Path, rule: str, detail: str = "", mend: str = "") -> LibraryError:
    if detail:
        rule = f"{rule} ({' '.join(detail.split())})"
    return LibraryError(describe("load", "library", str(path), rule, mend))
