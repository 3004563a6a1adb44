"""Files of schedules, a small one for each workload on each device.

``schedules/<device>/<workload id>.json`` holds the trace that MetaSchedule found, one instruction a line,
what it measured, what it was checked against and where it came from. A schedule is used only with
the TVM and the compute definition that it was made with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tvm_conv3dt.compiler.schedule import Measurement, Schedule, default_schedule, how_to_tune
from tvm_conv3dt.compiler.signature import check_signature, signature
from tvm_conv3dt.compiler.spaces.space import space_of
from tvm_conv3dt.compiler.split_layout import pays
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import FileFormatError, describe, show
from tvm_conv3dt.files import read_json, write_atomic
from tvm_conv3dt.spec import Workload

__all__ = ["SCHEMA", "find", "read", "write"]

SCHEMA = 2


def find(workload: Workload, device: Device, folders: Iterable[Path]) -> Schedule | None:
    """Return the schedule of a workload for a device, or None.

    One that does not pay with the device's cores is passed over, see `tvm_conv3dt.compiler.split_layout.pays`. For one that
    was tuned with fewer cores, and would take more workspace with these than is allowed, the default point stands in.

    Parameters
    ----------
    workload, device
        What is looked for; the device's fallbacks are tried after its own name.
    folders : iterable of Path
        Folders of schedules, nearest first.

    Raises
    ------
    FileFormatError
        If the file found is damaged.
    SignatureError
        If it was made with another TVM or definition, or for another device.
    """
    folders = list(folders)
    for name in (device.name, *device.fallback):
        for folder in folders:
            path = folder / name / f"{workload.id}.json"
            if path.is_file():
                found = read(path, name)
                if not pays(found.formulation, device):
                    continue
                fits = _within_bounds(path, found, device)
                return found if fits else default_schedule(workload, device)
    return None


def _within_bounds(path: Path, found: Schedule, device: Device) -> bool:
    space = space_of(device)
    try:
        point = space.point(**found.decisions)
        return space.within_bounds(found.layout(device), device, point)
    except (KeyError, TypeError, ValueError) as error:
        rule = f"its formulation {found.formulation} with its decisions is none that this version knows"
        raise _refused(path, rule) from error


def read(path: Path, device: str) -> Schedule:
    """Read a schedule file of `device`.

    Raises
    ------
    FileFormatError
        If it is damaged.
    SignatureError
        If it was made with another TVM or definition, or for another device.
    """
    values = read_json(path, SCHEMA)
    mend = f"renew it: {how_to_tune(path.stem, device)}"
    check_signature(path, values.get("signature"), device, values.get("device"), mend)
    try:
        measured, digest = values["measured"], _text(values, "digest")
        schedule = Schedule(
            workload=Workload.from_dict(values["workload"]),
            device=device,
            source=_text(values, "source"),
            formulation=_text(values, "formulation"),
            decisions=dict(values["decisions"]),
            trace=[values["trace"]["instructions"], values["trace"]["decisions"]],
            measurement=None if measured is None else _measurement(measured),
            verification=dict(values["verified"]),
            origin=dict(values["origin"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        rule = f"its fields are not those of a schedule: {show(str(error))}"
        raise _refused(path, rule) from error
    if schedule.workload.id != path.stem:
        rule = f"it holds the workload {schedule.workload.id}"
        raise _refused(path, rule, "rename it")
    if digest != _digest(schedule):
        # TVM ends the process on some traces that lack an instruction.
        rule = "its formulation, decisions and trace are not those that were written: their digest is another"
        raise _refused(path, rule)
    return schedule


def _refused(path: Path, rule: str, mend: str = "remove it, or promote again") -> FileFormatError:
    return FileFormatError(describe("read", "schedule", str(path), rule, mend))


def _digest(schedule: Schedule) -> str:
    """Return what tells whether anything that decides the code was changed."""
    parts = [schedule.formulation, dict(schedule.decisions), schedule.trace]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string")
    return value


def _measurement(values: dict[str, Any]) -> Measurement:
    # Before there were GPUs the processor was called a CPU.
    found = Measurement(**{"processor" if name == "cpu" else name: values[name] for name in values})
    if not all(isinstance(each, int | float) for each in (found.median_ms, found.gflops)):
        raise TypeError("median_ms and gflops must be numbers")
    return found


def write(schedule: Schedule, folder: Path) -> Path:
    """Write a schedule into a folder of schedules and return its path."""
    path = folder / schedule.device / f"{schedule.workload.id}.json"
    instructions, decisions = schedule.trace
    values = {
        "schema": SCHEMA,
        "signature": signature(),
        "device": schedule.device,
        "id": schedule.workload.id,
        "workload": schedule.workload.to_dict(),
        "source": schedule.source,
        "formulation": schedule.formulation,
        "decisions": dict(schedule.decisions),
        "measured": None if schedule.measurement is None else asdict(schedule.measurement),
        "verified": dict(schedule.verification),
        "origin": dict(schedule.origin),
        "digest": _digest(schedule),
    }
    text = json.dumps(values, indent=2)
    trace = (
        '  "trace": {\n    "instructions": [\n'
        + ",\n".join(f"      {json.dumps(each)}" for each in instructions)
        + '\n    ],\n    "decisions": '
        + json.dumps(decisions)
        + "\n  }"
    )
    write_atomic(path, text.removesuffix("\n}") + ",\n" + trace + "\n}\n")
    return path
