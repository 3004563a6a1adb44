"""Files as the package reads and writes them: whole or not at all, with an integer ``schema``."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tvm_conv3dt.errors import FileFormatError, FileWriteError, describe, show

__all__ = [
    "is_file",
    "read_json",
    "read_toml",
    "real_path",
    "sha256",
    "write_atomic",
    "write_json",
]

_CHUNK = 1 << 20


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file beside its target and rename it into place.

    A reader sees the old file or the new one, never a part, also when the process is killed or
    several write at once. Missing parent folders are made.

    Parameters
    ----------
    path : path-like
        The file to make or replace.
    data : bytes or str
        Its content; a str is written as UTF-8 with its newlines unchanged.

    Raises
    ------
    FileWriteError
        If the operating system refuses.
    """
    target = Path(path)
    content = data.encode("utf-8") if isinstance(data, str) else data
    # Hidden, and not longer than the target's own name may be; unlike tempfile's, its mode follows the umask.
    beside = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise FileWriteError(
            describe("write", "file", str(target), error.strerror or str(error))
        ) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # The rename itself survives a power cut only once the folder is on disk. Not every file system can.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: str | os.PathLike[str], value: Mapping[str, Any]) -> None:
    """Write a JSON object as indented text, atomically.

    Parameters
    ----------
    path : path-like
        The file to make or replace.
    value : mapping
        The object, its integer ``schema`` included; NaN and infinities are refused.

    Raises
    ------
    FileWriteError
        If the operating system refuses.
    ValueError, TypeError
        If `value` has no JSON form.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # What UTF-8 does not hold, as names of files may have it, is written as JSON's own escapes.
    write_atomic(path, text.encode("utf-8", "backslashreplace"))


def read_json(path: str | os.PathLike[str], schema: int | tuple[int, ...]) -> dict[str, Any]:
    """Read a JSON object of the given schema, or of one of several.

    Parameters
    ----------
    path : path-like
        The file.
    schema : int or tuple of int
        The values of its ``schema`` field that are understood, in ascending order.

    Returns
    -------
    dict
        The object, its ``schema`` included.

    Raises
    ------
    FileFormatError
        If the file is missing, unreadable, not JSON, not an object, or of another schema.
    """
    text = _read_text(path)
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"it is not valid JSON ({_first_line(error)})") from error
    return _with_schema(path, value, schema)


def read_toml(path: str | os.PathLike[str], schema: int) -> dict[str, Any]:
    """Read a TOML file of the given schema.

    Parameters
    ----------
    path : path-like
        The file.
    schema : int
        The only value of its ``schema`` field that is understood.

    Returns
    -------
    dict
        The top-level table, its ``schema`` included.

    Raises
    ------
    FileFormatError
        If the file is missing, unreadable, not TOML, or of another schema.
    """
    # Here, not above: before Python 3.11 this is a package of its own, and running a bundle needs no TOML.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    text = _read_text(path)
    try:
        value = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"it is not valid TOML ({_first_line(error)})") from error
    return _with_schema(path, value, schema)


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal.

    Parameters
    ----------
    path : path-like
        The file; it is read in pieces.

    Returns
    -------
    str
        64 lower-case hexadecimal digits.

    Raises
    ------
    FileFormatError
        If the file is missing or unreadable.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except (OSError, ValueError) as error:
        raise _damaged(path, _said(error)) from error
    return digest.hexdigest()


def is_file(path: Path) -> bool:
    """Return whether there is a file.

    Raises
    ------
    FileFormatError
        If the operating system does not say: a folder may not be looked into, or the name is too long.
    """
    try:
        return path.is_file()
    except (OSError, ValueError) as error:
        raise _damaged(path, _said(error)) from error


def real_path(path: Path) -> Path:
    """Return a path without links; one that leads to itself stays as it is.

    Raises
    ------
    FileFormatError
        If no file can have such a name.
    """
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:
        raise _damaged(path, _said(error)) from error


def _said(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


def _read_text(path: str | os.PathLike[str]) -> str:
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise _damaged(path, _said(error)) from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(path, f"it is not UTF-8 text (byte {error.start})") from error


def _with_schema(
    path: str | os.PathLike[str], value: object, schema: int | tuple[int, ...]
) -> dict[str, Any]:
    read = schema if isinstance(schema, tuple) else (schema,)
    if not isinstance(value, dict):
        raise _damaged(path, f"its top level must be an object, not {type(value).__name__}")
    found, named = value.get("schema"), " or ".join(map(str, read))
    if type(found) is not int:  # bool is an int to isinstance
        raise _damaged(path, f"its field schema must be the integer {named}, not {show(found)}")
    if found not in read:
        writer = value.get("package")
        version = (
            f"tvm_conv3dt {show(writer)}"
            if isinstance(writer, str)
            else "the version of tvm_conv3dt"
        )
        mend = (
            f"install {version} that wrote it, or a later one"
            if found > read[-1]
            else f"make the file again, or use {version} that wrote it"
        )
        rule = f"its schema is {found} and this version reads {named}"
        raise FileFormatError(describe("read", "file", str(path), rule, mend))
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _damaged(path: str | os.PathLike[str], rule: str) -> FileFormatError:
    return FileFormatError(describe("read", "file", str(path), rule))
