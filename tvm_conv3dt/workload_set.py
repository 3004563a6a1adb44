"""Workload sets: TOML files that give workloads short names, and the words that select them.

A file holds its workloads under TensorFlow's argument names, or picks from another file::

    schema = 1                            schema = 1
    [[workload]]                          from = "suite"
    name = "nnunet/up3"                   names = ["nnunet/up1", "nnunet/up3"]
    input = [1, 16, 16, 16, 256]
    filters = [2, 2, 2, 128, 256]
    …
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_conv3dt import workload_id
from tvm_conv3dt.errors import (
    ArgumentTypeError,
    FileFormatError,
    WorkloadError,
    WorkloadNotFoundError,
    describe,
    show,
)
from tvm_conv3dt.files import read_toml, real_path
from tvm_conv3dt.spec import Workload

__all__ = ["NamedWorkload", "names", "read", "resolve", "resolve_all"]

_FOLDER = Path(__file__).with_name("workloads")
_SCHEMA = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*")


@dataclass(frozen=True)
class NamedWorkload:
    """A workload with the short name that people use for it.

    Parameters
    ----------
    name : str
        ``"nnunet/up3"``; the id where it has no other name.
    workload : Workload
        What is named.
    """

    name: str
    workload: Workload


def names() -> list[str]:
    """Return the names of the sets that come with the package, in alphabetical order."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def read(path: str | Path) -> list[NamedWorkload]:
    """Read a workload set.

    Parameters
    ----------
    path : path-like
        A TOML file; its ``from`` may name a set of the package or a file relative to its own folder.

    Returns
    -------
    list of NamedWorkload
        In the file's order; not empty.

    Raises
    ------
    FileFormatError
        If the file is missing or damaged, or has an unknown field or schema, a name twice, or a
        workload that TensorFlow's rules do not allow.
    """
    return _read(Path(path), ())


def resolve(spec: str) -> list[NamedWorkload]:
    """Return the workloads that a word selects.

    Parameters
    ----------
    spec : str
        In this order: a file, if it ends in ``.toml``; a set of the package (``"ci"``); an id; or a
        short name from the package's sets (``"nnunet/up3"``).

    Returns
    -------
    list of NamedWorkload
        Not empty.

    Raises
    ------
    WorkloadNotFoundError
        If it is none of these.
    FileFormatError
        If the file cannot be used.
    WorkloadError
        If it looks like an id and is not one of a legal workload.
    """
    if spec.endswith(".toml"):
        return read(spec)
    if spec in names():
        return read(_FOLDER / f"{spec}.toml")
    if workload_id.is_like(spec):
        return [NamedWorkload(spec, Workload.from_id(spec))]
    for name in names():
        for named in read(_FOLDER / f"{name}.toml"):
            if named.name == spec:
                return [named]
    raise WorkloadNotFoundError(
        describe(
            "find",
            "workloads",
            show(spec),
            f"it is no set ({', '.join(names())}), no file ending in .toml, no workload id, "
            "and no short name in a set",
            "list the short names with: tvm-conv3dt show suite",
        )
    )


def resolve_all(
    specs: Iterable[str],
    data_format: str | None = None,
    dtype: str | None = None,
    precision: str | None = None,
    by_name: bool = False,
) -> list[NamedWorkload]:
    """Return the workloads that several words select, each workload once.

    Parameters
    ----------
    specs : iterable of str
        As for `resolve`.
    data_format, dtype, precision : str or None
        What all of them are recast to, see `Workload.recast`.
    by_name : bool
        Return a workload for each of its names, its id aside: layers of a network may be equal.

    Returns
    -------
    list of NamedWorkload
        In order of first appearance; a workload keeps its first name.

    Raises
    ------
    WorkloadNotFoundError, FileFormatError, WorkloadError
        As for `resolve`; WorkloadError too if two workloads have one name, or one cannot have this precision.
    """
    chosen: dict[Workload, dict[str, NamedWorkload]] = {}
    owners: dict[str, Workload] = {}
    for spec in specs:
        for found in resolve(spec):
            named = NamedWorkload(found.name, _recast(found, data_format, dtype, precision))
            if found.name == found.workload.id:
                named = NamedWorkload(named.workload.id, named.workload)
            owner = owners.setdefault(named.name, named.workload)
            if owner != named.workload:
                raise WorkloadError(
                    describe(
                        "select",
                        "workloads",
                        show(spec),
                        f"its name {named.name} already stands for {owner.id}",
                        "rename one of the two",
                    )
                )
            names = chosen.setdefault(named.workload, {})
            if not names or (by_name and named.name != named.workload.id):
                names.setdefault(named.name, named)
    return [named for names in chosen.values() for named in names.values()]


def _recast(
    named: NamedWorkload, data_format: str | None, dtype: str | None, precision: str | None
) -> Workload:
    try:
        return named.workload.recast(data_format, dtype, precision)
    except WorkloadError as error:
        raise WorkloadError(describe("recast", "workload", named.name, str(error))) from error


def _read(path: Path, above: tuple[Path, ...]) -> list[NamedWorkload]:
    if real_path(path) in above:
        raise _bad(path, "its from leads back to itself")
    table = read_toml(path, _SCHEMA)
    if "from" in table:
        _only(path, "it", table, ("schema", "from", "names"))
        return _pick(path, table, above)
    _only(path, "it", table, ("schema", "workload"))
    entries = table.get("workload")
    if not isinstance(entries, list) or not entries:
        raise _bad(path, "it needs at least one [[workload]], or from and names")
    workloads = [_workload(path, index, entry) for index, entry in enumerate(entries, start=1)]
    _once(path, [named.name for named in workloads])
    return workloads


def _pick(path: Path, table: Mapping[str, Any], above: tuple[Path, ...]) -> list[NamedWorkload]:
    source, wanted = table["from"], table.get("names")
    if not isinstance(source, str):
        raise _bad(path, f"its from is {show(source)} and must be a set's name or a file's")
    if not isinstance(wanted, list) or not wanted or not all(isinstance(n, str) for n in wanted):
        raise _bad(path, f"its names are {show(wanted)} and must be a list of short names")
    _once(path, wanted)
    if not source.endswith(".toml") and source not in names():
        raise _bad(
            path, f"its from is {show(source)}, no set ({', '.join(names())}) and no .toml file"
        )
    origin = path.parent / source if source.endswith(".toml") else _FOLDER / f"{source}.toml"
    known = {named.name: named for named in _read(origin, (*above, real_path(path)))}
    for name in wanted:
        if name not in known:
            raise _bad(path, f"its name {show(name)} is not in {source} ({', '.join(known)})")
    return [known[name] for name in wanted]


def _workload(path: Path, index: int, entry: object) -> NamedWorkload:
    if not isinstance(entry, dict):
        raise _bad(path, f"its workload {index} must be a table")
    values = dict(entry)
    name = values.pop("name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _bad(
            path,
            f"its workload {index} has the name {show(name)}, and a name is made of letters, digits, "
            "'_', '.', '-' and parts joined by '/'",
        )
    if workload_id.is_like(name):
        raise _bad(path, f"its workload {index} has the name {name}, which looks like an id")
    try:
        return NamedWorkload(name, Workload.from_dict(values))
    except (WorkloadError, ArgumentTypeError) as error:
        raise _bad(path, f"its workload {name} is not valid: {error}") from error


def _only(path: Path, owner: str, table: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    for key in table:
        if key not in allowed:
            raise _bad(
                path, f"{owner} has the unknown field {show(key)}, not one of {', '.join(allowed)}"
            )


def _once(path: Path, found: list[str]) -> None:
    for name in found:
        if found.count(name) > 1:
            raise _bad(path, f"its name {name} is there {found.count(name)} times")


def _bad(path: Path, rule: str) -> FileFormatError:
    return FileFormatError(describe("read", "workload set", str(path), rule))
