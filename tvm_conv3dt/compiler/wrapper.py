"""What a bundle can carry so that a machine with NumPy and tvm-ffi needs nothing else: this package's runtime, in one file."""

from __future__ import annotations

import py_compile
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import tvm_conv3dt
from tvm_conv3dt.level import LibraryFile

__all__ = ["FILE_NAME", "write"]

FILE_NAME = "conv3dt.pyz"
"""The archive's name in the bundle's folder."""

_PACKAGE = Path(tvm_conv3dt.__file__).parent
# Of the package: what runs and checks bundles, and what their public names need.
_PARTS = (
    "*.py",
    "runtime/*.py",
    "forms/*.py",
    "measure/__init__.py",
    "measure/timing.py",
    "measure/verify.py",
    "cli/__init__.py",
    "cli/board.py",
)
_LICENCES = ("LICENSE", "NOTICE")
_MAIN = """\
import sys
from pathlib import Path

from tvm_conv3dt.cli.board import main

sys.exit(main(Path(__file__).parents[1]))
"""
# The same sources give the same bytes: the earliest time that an archive can say.
_TIME = (1980, 1, 1, 0, 0, 0)


def write(folder: Path) -> LibraryFile:
    """Write this package's runtime into a bundle's folder, as an archive that Python runs and imports from.

    Beside each source is what this Python compiles it to: another version passes it by and compiles the source at every start,
    for which an archive has no cache.

    Parameters
    ----------
    folder : Path
        The bundle's folder.

    Returns
    -------
    LibraryFile
        What was written, for the manifest.

    Raises
    ------
    OSError
        If the operating system refuses.
    """
    path = folder / FILE_NAME
    with path.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in _contents():
                entry = zipfile.ZipInfo(name, _TIME)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content)
    path.chmod(0o755)
    return LibraryFile.of(path)


def _contents() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", _MAIN.encode()
    for pattern in _PARTS:
        for path in sorted(_PACKAGE.glob(pattern)):
            name = f"tvm_conv3dt/{path.relative_to(_PACKAGE)}"
            yield name, path.read_bytes()
            yield f"{name}c", _compiled(path, name)
    for name in _LICENCES:
        yield f"tvm_conv3dt/{name}", _licence(name)


def _compiled(path: Path, name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        # Not by its source's time, which an archive does not keep.
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        file = py_compile.compile(
            str(path), f"{folder}/module.pyc", name, doraise=True, invalidation_mode=mode
        )
        assert file is not None
        return Path(file).read_bytes()


def _licence(name: str) -> bytes:
    beside = _PACKAGE.parent / name  # in a checkout
    if beside.is_file():
        return beside.read_bytes()
    held = metadata.files("tvm-conv3dt") or ()
    return next(file for file in held if file.name == name).read_binary()
