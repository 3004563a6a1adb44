"""From a tuning log to a schedule: the best few are rebuilt, verified, and timed side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tvm_conv3dt import paths
from tvm_conv3dt import threads as cores
from tvm_conv3dt.compiler import schedule as schedules_of
from tvm_conv3dt.compiler.schedule import Measurement, Schedule, default_schedule
from tvm_conv3dt.compiler.search.log import TuningLog
from tvm_conv3dt.compiler.search.measurer import Candidate, Failure, Measurer, Request
from tvm_conv3dt.compiler.spaces.point import point_of
from tvm_conv3dt.compiler.target import processor_name, require_runnable
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import TuningError, describe
from tvm_conv3dt.workload_set import NamedWorkload

__all__ = ["Promotion", "promote"]

_ROUNDS = 5
_ROUND_SECONDS = 0.1
_TIMEOUT = 120.0


@dataclass(frozen=True)
class Promotion:
    """A schedule that was written, and where."""

    name: str
    schedule: Schedule
    path: Path


def promote(
    named: Sequence[NamedWorkload],
    device: Device,
    *,
    logs: Path | None = None,
    schedules: Path | None = None,
    top: int = 3,
    threads: int | None = None,
    keep: int | None = None,
    measurer: Measurer | None = None,
) -> list[Promotion]:
    """Write the best verified schedule of each workload.

    The best `top` of the log and the default point are rebuilt, verified exactly and timed in turns, so that
    they meet the same machine; the fastest of this is promoted.

    Parameters
    ----------
    named, device
        What to promote, and where: the log and the schedule are this device's.
    logs, schedules : Path, optional
        Folders to read and to write; the working directory's by default.
    top : int
        How many candidates of the log compete.
    threads : int, optional
        What they run on.
    keep : int, optional
        Prune each log to so many of its fastest records.
    measurer : Measurer, optional
        To use instead of a process of its own.

    Raises
    ------
    TuningError
        If a workload has no log, or nothing in it verifies.
    UnsupportedError, DeviceError
        If the device cannot be compiled for yet, or its code cannot run on this machine.
    SignatureError
        If a log is of another TVM, definition or device.
    """
    require_runnable(device)
    if measurer is None:
        count = cores.available() if threads is None else threads
        with Measurer(count, device.kind) as own:
            return promote(
                named,
                device,
                logs=logs,
                schedules=schedules,
                top=top,
                threads=count,
                keep=keep,
                measurer=own,
            )
    logs = paths.user_logs() if logs is None else logs
    schedules = paths.user_schedules() if schedules is None else schedules
    result = []
    for each in named:
        log = TuningLog(logs, device, each.workload)
        if not log.exists:
            mend = f"tune it: tvm-conv3dt tune --device {device.name} --workloads {each.name}"
            rule = f"there is no log at {log.path}"
            raise TuningError(describe("promote", "workload", each.name, rule, mend))
        with log.reading():
            best = _best(log, top, measurer)
            result.append(Promotion(each.name, best, schedules_of.write(best, schedules)))
            if keep is not None:
                log.prune(keep)
    return result


def _best(log: TuningLog, top: int, measurer: Measurer) -> Schedule:
    candidates = [default_schedule(log.workload, log.device)]
    for record in _top_records(log, top):
        point = point_of(record.trace)
        trace = schedules_of.trace_json(record.trace)
        if trace not in [each.trace for each in candidates]:
            candidates.append(
                replace(
                    candidates[0],
                    source="tuned",
                    formulation=point.formulation,
                    decisions=asdict(point),
                    trace=trace,
                )
            )
    times: list[list[float]] = [[] for _ in candidates]
    failures: dict[int, Failure] = {}
    for _ in range(_ROUNDS):
        for index, candidate in enumerate(candidates):
            if index in failures:
                continue
            traced = Candidate(candidate.layout(log.device), candidate.trace)
            request = Request(traced, log.device, _ROUND_SECONDS, float("inf"))
            outcome = measurer.measure(request, _TIMEOUT)
            if isinstance(outcome, Failure):
                failures[index] = outcome
            else:
                times[index] += outcome.seconds
    valid = [index for index in range(len(candidates)) if index not in failures]
    if not valid:
        first = next(iter(failures.values()))
        rule = f"none of {len(candidates)} candidates verified: {first.kind}: {first.message}"
        raise TuningError(describe("promote", "workload", log.workload.id, rule))
    winner = min(valid, key=lambda index: median(times[index]))
    return _described(log, candidates[winner], times[winner], times[0], measurer.threads)


def _top_records(log: TuningLog, top: int) -> list[Any]:
    database = log.database()
    records = [r for r in database.get_all_tuning_records() if r.run_secs]
    return sorted(records, key=lambda r: median(float(s) for s in r.run_secs))[:top]


def _described(
    log: TuningLog, winner: Schedule, times: list[float], default: list[float], threads: int
) -> Schedule:
    """Return the winner with what it measured and where it came from; its source is "default" where that won."""
    q1, middle, q3 = quantiles(times, n=4)
    runs = log.runs()
    return replace(
        winner,
        measurement=Measurement(
            median_ms=round(middle * 1e3, 4),
            q1_ms=round(q1 * 1e3, 4),
            q3_ms=round(q3 * 1e3, 4),
            default_median_ms=round(median(default) * 1e3, 4) if default else None,
            gflops=round(log.workload.flops / middle / 1e9, 1),
            threads=threads,
            processor=processor_name(log.device),
        ),
        verification={"integers": "equal to the reference"},
        origin={
            "trials": sum(int(run["trials"]) for run in runs),
            "seed": runs[-1]["seed"] if runs else None,
            "tuned": runs[-1]["started"] if runs else None,
        },
    )
