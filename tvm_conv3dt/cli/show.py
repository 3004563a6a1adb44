"""`show`: describes a bundle, schedule, log or workload set without running anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tvm_conv3dt import errors, files, manifest, workload_set
from tvm_conv3dt.cli import options, output, tables

_LOG_FILE = "run.json"
_SCHEMA = 1


@click.command("show")
@click.argument("what", metavar="DIR|FILE|SET|ID")
@options.as_json
def command(what: str, as_json: bool) -> None:
    """Describe a bundle, a schedule, a tuning log, a workload set or one workload.

    \b
    Examples:
      tvm-conv3dt show suite
      tvm-conv3dt show nnunet/up3
      tvm-conv3dt show bundle
    """
    path = Path(what)
    if path.is_dir():
        _show_folder(path, as_json)
    elif path.name == manifest.FILE_NAME and path.is_file():
        _show_folder(path.parent, as_json)
    elif path.suffix == ".json":
        _show_record(path, as_json)
    else:
        _show_workloads(what, as_json)


def _show_folder(folder: Path, as_json: bool) -> None:
    if (folder / manifest.FILE_NAME).is_file():
        found = manifest.Manifest.read(folder)
        if as_json:
            # Here, not above: this loads tvm-ffi, which what else is shown does not need.
            from tvm_conv3dt.runtime.platform_check import fitting_level

            level = fitting_level(found)
            output.write_json({**found.to_dict(), "level": level and level.device})
        else:
            tables.bundle_table(found)
        return
    # A folder may hold bundles and results of benches too.
    others = {manifest.FILE_NAME, "bench.json"}
    records = sorted(path for path in folder.rglob("*.json") if path.name not in others)
    logs = [path for path in records if path.name == _LOG_FILE]
    if not records:
        raise errors.FileFormatError(
            errors.describe(
                "show",
                "folder",
                str(folder),
                f"it holds no {manifest.FILE_NAME}, no schedules and no tuning logs",
            )
        )
    if len(logs or records) == 1:
        _show_record((logs or records)[0], as_json)
        return
    contents = {path: files.read_json(path, _SCHEMA) for path in logs or records}
    if as_json:
        output.write_json({"logs" if logs else "schedules": list(contents.values())})
    elif logs:
        tables.logs_table(contents)
    else:
        tables.schedules_table(contents)


def _show_record(path: Path, as_json: bool) -> None:
    record = files.read_json(path, _SCHEMA)
    if as_json:
        output.write_json(record)
    else:
        output.write_fields({"file": path, **_flat(record)})


def _show_workloads(what: str, as_json: bool) -> None:
    named = workload_set.resolve(what)
    if as_json:
        output.write_json(
            {
                "workloads": [
                    {"name": each.name, **tables.workload_fields(each.workload)} for each in named
                ]
            }
        )
    elif len(named) == 1:
        output.write_fields({"name": named[0].name, **tables.workload_fields(named[0].workload)})
    else:
        tables.workload_table(named, f"{what}: {len(named)} workloads")


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Return nested objects as dotted names, and lists as text, a long one line by line."""
    flat: dict[str, object] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
            for index, item in enumerate(value, start=1):
                flat.update(_flat(item, f"{prefix}{name}.{index}."))
        elif isinstance(value, list):
            flat[prefix + name] = _joined(value)
        else:
            flat[prefix + name] = "" if value is None else value
    return flat


def _joined(items: list[Any]) -> str:
    words = [str(item) for item in items]
    return ", ".join(words) if sum(map(len, words)) < 100 else "\n".join(words)
