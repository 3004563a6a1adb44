"""Schedules: the distilled result for one workload on one device, one small file each.

``schedules/<device>/<workload id>.json`` holds the trace that MetaSchedule found, one instruction a line,
what it measured, what it was checked against and where it came from. A schedule is used only with
the TVM and the compute definition that it was made with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import definition, kernel
from tvm_conv3dt.compiler.definition import AnyLayout
from tvm_conv3dt.compiler.spaces.point import AnyPoint
from tvm_conv3dt.compiler.spaces.space import space_of
from tvm_conv3dt.compiler.split_layout import pays
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import FileFormatError, SignatureError, describe, show
from tvm_conv3dt.files import read_json, write_atomic
from tvm_conv3dt.spec import Workload

__all__ = [
    "SCHEMA",
    "Measurement",
    "Schedule",
    "apply_trace",
    "check_signature",
    "default_schedule",
    "find",
    "how_to_tune",
    "point_schedule",
    "read",
    "signature",
    "trace_json",
    "write",
]

SCHEMA = 1


@dataclass(frozen=True)
class Measurement:
    """What a schedule measured when it was promoted, beside the default point in the same run.

    `processor` is the brand name of the CPU, or of the GPU; `threads` are the CPU's.
    """

    median_ms: float
    q1_ms: float
    q3_ms: float
    default_median_ms: float | None
    gflops: float
    threads: int
    processor: str


@dataclass(frozen=True)
class Schedule:
    """How one workload is computed on one device.

    Attributes
    ----------
    workload : Workload
    device : str
        Name of the device that it is for.
    source : str
        ``"tuned"`` or ``"default"``.
    formulation : str
        How the operator is written: see `tvm_conv3dt.compiler.layout`.
    decisions : dict
        The values of the trace's decisions by name, for people; the trace is what counts.
    trace : list
        MetaSchedule's trace: ``[instructions, decisions]``.
    measurement : Measurement or None
    verification : dict
        What it was checked against.
    origin : dict
        Trials, seed and the log it came from.
    """

    workload: Workload
    device: str
    source: str
    formulation: str
    decisions: Mapping[str, Any]
    trace: list[Any]
    measurement: Measurement | None
    verification: Mapping[str, Any]
    origin: Mapping[str, Any]

    def layout(self, device: Device) -> AnyLayout:
        """Return the layout that the schedule is of."""
        return space_of(device).layout_of(self.workload, device, self.formulation)

    def apply(self, device: Device) -> s_tir.Schedule:
        """Return the scheduled operator.

        Raises
        ------
        SignatureError
            If the trace does not fit the definition.
        """
        sch = kernel.new_schedule(self.layout(device))
        apply_trace(sch, self.trace, self.workload)
        return sch


def signature() -> dict[str, Any]:
    """Return what schedules and logs must have in common with this installation."""
    return {"tvm": tvm.__version__, "definition": definition.VERSION}


def how_to_tune(workload: str, device: str) -> str:
    """Return the command that tunes a workload, by its id, for a device; one that no catalogue names is this machine."""
    name = device if device in catalogue.names() else catalogue.HOST
    return f"tvm-conv3dt tune --device {name} --workloads {workload}"


def check_signature(
    path: Path, found: object, device: str, device_found: object, mend: str
) -> None:
    """Refuse a schedule or log of another TVM, definition or device.

    Raises
    ------
    SignatureError
        With what was found, and `mend`.
    """
    if found != signature():
        rule = f"this installation has {show(signature())}"
        raise SignatureError(describe("use", f"{path}", f"signature {show(found)}", rule, mend))
    if device_found != device:
        rule = f"it is in the folder of device {device}, and what one device measured says nothing of another"
        raise SignatureError(describe("use", f"{path}", f"device {show(device_found)}", rule, mend))


def apply_trace(sch: s_tir.Schedule, trace: list[Any], workload: Workload) -> None:
    """Apply a trace in MetaSchedule's JSON form.

    Raises
    ------
    SignatureError
        If it does not fit the definition.
    """
    try:
        s_tir.schedule.Trace.apply_json_to_schedule(trace, sch)
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        rule = f"it does not fit the definition: {str(error).strip().splitlines()[-1]}"
        mend = "remove the schedule, or tune again"
        raise SignatureError(describe("apply", "trace", workload.id, rule, mend)) from error


def trace_json(trace: s_tir.schedule.Trace) -> list[Any]:
    """Return a trace in MetaSchedule's JSON form, as plain Python values."""

    def plain(value: Any) -> Any:
        if isinstance(value, list | tuple | tvm_ffi.Array):
            return [plain(each) for each in value]
        if isinstance(value, tirx.IntImm | tirx.FloatImm):
            return value.value
        return value

    return [plain(each) for each in trace.as_json()]


def default_schedule(workload: Workload, device: Device) -> Schedule:
    """Return the default point of the design space as a schedule."""
    return point_schedule(workload, device, space_of(device).default_points(workload, device)[0])


def point_schedule(workload: Workload, device: Device, point: AnyPoint) -> Schedule:
    """Return a point of the design space as an untuned schedule."""
    space = space_of(device)
    layout = space.layout_of(workload, device, point.formulation)
    sch = kernel.new_schedule(layout)
    space.apply(sch, layout, device, point.family, point.choose)
    trace = trace_json(sch.trace)
    name = device.name
    return Schedule(
        workload, name, "default", point.formulation, asdict(point), trace, None, {}, {}
    )


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
        mend = "remove it, or promote again"
        raise FileFormatError(describe("read", "schedule", str(path), rule, mend)) from error


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
        measured = values["measured"]
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
        raise FileFormatError(
            describe("read", "schedule", str(path), rule, "remove it, or promote again")
        ) from error
    if schedule.workload.id != path.stem:
        rule = f"it holds the workload {schedule.workload.id}"
        raise FileFormatError(describe("read", "schedule", str(path), rule, "rename it"))
    return schedule


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
