"""The CUDA runtime library: looked for where toolkits, wheels and frameworks put it, and loaded.

What needs it finds it by its name afterwards, wherever it lies: the system's loader knows what is loaded.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tvm_conv3dt.errors import LibraryError, describe

__all__ = ["NAME", "load"]

NAME = "libcudart.so.13"
"""What the releases of TVM need that this version works with."""

_ENVIRONMENT = ("CUDA_HOME", "CUDA_PATH")
_OF_A_TOOLKIT = ("lib64", "lib", "targets/*/lib")
_TOOLKITS = Path("/usr/local")


def load(name: str = NAME) -> str:
    """Load the CUDA runtime library, and return where it is.

    It is looked for among the libraries that this process has loaded, as PyTorch's; in the toolkit that
    ``CUDA_HOME`` or ``CUDA_PATH`` names; in NVIDIA's wheels; where the system's loader searches; and in the
    toolkits in /usr/local.

    Parameters
    ----------
    name : str
        Its name with its major version: ``"libcudart.so.13"``.

    Returns
    -------
    str
        Its path, or its name where only the system's loader knows.

    Raises
    ------
    LibraryError
        If it is in none of these places, or is not loadable from any.
    """
    refused: list[str] = []
    if _opens(name, refused, os.RTLD_NOW | os.RTLD_NOLOAD):
        return _path_of(name)
    refused.clear()
    for path in (*_of_environment(name), *_of_wheels(name)):
        if _opens(str(path), refused):
            return str(path)
    if _opens(name, []):
        return _path_of(name)
    for path in _of_toolkits(name):
        if _opens(str(path), refused):
            return str(path)
    raise _not_found(name, refused)


def _opens(path: str, refused: list[str], mode: int = os.RTLD_NOW) -> bool:
    try:
        ctypes.CDLL(path, mode)
    except OSError as error:
        refused.append(f"{path} does not load ({error})")
        return False
    return True


def _path_of(name: str) -> str:
    """Return the path of a library that is loaded."""
    for line in Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines():
        path = line.split(maxsplit=5)[-1]
        if Path(path).name.startswith(name):
            return path
    return name


def _of_environment(name: str) -> Iterator[Path]:
    roots = (Path(os.environ[each]) for each in _ENVIRONMENT if os.environ.get(each))
    return _in_toolkits(roots, name)


def _of_wheels(name: str) -> Iterator[Path]:
    return (path for folder in _wheel_folders(name) if (path := folder / name).is_file())


def _of_toolkits(name: str) -> Iterator[Path]:
    return _in_toolkits(sorted(_TOOLKITS.glob("cuda*"), reverse=True), name)


def _in_toolkits(roots: Iterable[Path], name: str) -> Iterator[Path]:
    return (
        path for root in roots for each in _OF_A_TOOLKIT for path in root.glob(f"{each}/{name}")
    )


def _wheel_folders(name: str) -> list[Path]:
    """Return where NVIDIA's wheels have it, in the layout of this major version, and in the one before."""
    try:
        spec = importlib.util.find_spec("nvidia")
    except (ImportError, ValueError):
        spec = None
    places = (spec.submodule_search_locations if spec is not None else None) or ()
    layouts = (f"cu{_major(name)}", "cuda_runtime")
    return [Path(place) / layout / "lib" for place in places for layout in layouts]


def _major(name: str) -> str:
    return name.rpartition(".")[2]


def _not_found(name: str, refused: list[str]) -> LibraryError:
    toolkit = ", ".join(_OF_A_TOOLKIT)
    variables = " and ".join(
        f"{each} ({os.environ.get(each) or 'not set'})" for each in _ENVIRONMENT
    )
    wheels = [str(folder) for folder in _wheel_folders(name)]
    wheel = f"NVIDIA's wheels ({', '.join(wheels) or 'none is installed'})"
    toolkits = f"{_TOOLKITS}/cuda*"
    rule = (
        f"it is not among the loaded libraries, nor in {toolkit} of {variables}, nor in {wheel}, nor "
        f"where the system's loader searches, nor in {toolkit} of {toolkits}"
    )
    major = _major(name)
    mend = f"pip install 'nvidia-cuda-runtime=={major}.*', or install the CUDA toolkit {major}"
    return LibraryError(
        describe("load", "CUDA runtime library", name, "; ".join([rule, *refused]), mend)
    )
