"""Schedules: the distilled result for one workload on one device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import tvm_ffi
from tvm import s_tir, tirx

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.definition import AnyLayout
from tvm_conv3dt.compiler.spaces.point import AnyPoint
from tvm_conv3dt.compiler.spaces.space import space_of
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import SignatureError, describe
from tvm_conv3dt.spec import Workload

__all__ = [
    "Measurement",
    "Schedule",
    "apply_trace",
    "default_schedule",
    "how_to_tune",
    "point_schedule",
    "trace_json",
]


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


def how_to_tune(workload: str, device: str) -> str:
    """Return the command that tunes a workload, by its id, for a device; one that no catalogue names is this machine."""
    name = device if device in catalogue.names() else catalogue.HOST
    return f"tvm-conv3dt tune --device {name} --workloads {workload}"


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
