"""From a tuning log to a schedule: the best few are rebuilt, verified, and timed side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tvm_conv3dt import paths
from tvm_conv3dt.compiler import schedule_file
from tvm_conv3dt.compiler.fleet.recruiter import FleetSettings
from tvm_conv3dt.compiler.measuring import measurer_for
from tvm_conv3dt.compiler.schedule import (
    Measurement,
    Schedule,
    default_schedule,
    how_to_tune,
    trace_json,
)
from tvm_conv3dt.compiler.search.log import TuningLog
from tvm_conv3dt.compiler.search.measurer import AnyMeasurer, Candidate, Failure, Request
from tvm_conv3dt.compiler.spaces.point import AnyPoint, point_of
from tvm_conv3dt.compiler.spaces.space import space_of
from tvm_conv3dt.compiler.split_layout import pays
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import TuningError, describe
from tvm_conv3dt.workload_set import NamedWorkload

__all__ = ["Promotion", "promote"]

_ROUNDS = 5
_ROUND_SECONDS = 0.1
_TIMEOUT = 120.0
_BOARDS = 5


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
    fleet: FleetSettings | None = None,
    measurer: AnyMeasurer | None = None,
    on_note: Callable[[str], None] | None = None,
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
    fleet : FleetSettings, optional
        The boards to time them on, one at a time; this machine by default.
    measurer : AnyMeasurer, optional
        To use instead of one of its own.
    on_note : callable, optional
        Called with a sentence where the user should know of something about the fleet.

    Raises
    ------
    TuningError
        If a workload has no log, or nothing in it verifies.
    UnsupportedError, DeviceError
        If the device cannot be compiled for yet, or its code is to run on this machine, and cannot.
    FleetError
        If the fleet's tracker does not answer, or no board can be used.
    SignatureError
        If a log is of another TVM, definition or device.
    """
    if measurer is None:
        with measurer_for(device, threads, fleet, on_note) as own:
            return promote(
                named,
                device,
                logs=logs,
                schedules=schedules,
                top=top,
                keep=keep,
                measurer=own,
            )
    measurer.require_runnable(device)
    logs = paths.user_logs() if logs is None else logs
    schedules = paths.user_schedules() if schedules is None else schedules
    result = []
    for each in named:
        log = TuningLog(logs, device, each.workload)
        if not log.exists:
            mend = f"tune it: {how_to_tune(each.workload.id, device.name)}"
            rule = f"there is no log at {log.path}"
            raise TuningError(describe("promote", "workload", each.name, rule, mend))
        with log.reading():
            best = _best(log, top, measurer)
            result.append(Promotion(each.name, best, schedule_file.write(best, schedules)))
            if keep is not None:
                log.prune(keep)
    return result


def _best(log: TuningLog, top: int, measurer: AnyMeasurer) -> Schedule:
    candidates = [default_schedule(log.workload, log.device)]
    for record in _top_records(log, top):
        point = point_of(record.trace)
        trace = trace_json(record.trace)
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
    times, failures = _side_by_side(log, candidates, measurer)
    valid = [index for index in range(len(candidates)) if index not in failures]
    if not valid:
        first = next(iter(failures.values()))
        rule = f"none of {len(candidates)} candidates verified: {first.kind}: {first.message}"
        raise TuningError(describe("promote", "workload", log.workload.id, rule))
    winner = min(valid, key=lambda index: median(times[index]))
    return _described(log, candidates[winner], times[winner], times[0], measurer)


def _side_by_side(
    log: TuningLog, candidates: list[Schedule], measurer: AnyMeasurer
) -> tuple[list[list[float]], dict[int, Failure]]:
    """Time candidates in turns on one board; return the seconds of each, and those that failed.

    Where the board is lost, another takes over, from the beginning.
    """
    failures: dict[int, Failure] = {}
    for _ in range(_BOARDS):
        times: list[list[float]] = [[] for _ in candidates]
        boards = set()
        for index, candidate in [*enumerate(candidates)] * _ROUNDS:
            if index in failures:
                continue
            traced = Candidate(candidate.layout(log.device), candidate.trace)
            request = Request(traced, log.device, _ROUND_SECONDS, float("inf"))
            outcome = measurer.measure(request, _TIMEOUT)
            if isinstance(outcome, Failure):
                failures[index] = outcome
                continue
            boards.add(outcome.board)
            if len(boards) > 1:
                break
            times[index] += outcome.seconds
        else:
            return times, failures
    rule = f"of {_BOARDS} boards none lasted for long enough to time all candidates"
    raise TuningError(describe("promote", "workload", log.workload.id, rule))


def _top_records(log: TuningLog, top: int) -> list[Any]:
    database = log.database()
    records = [r for r in database.get_all_tuning_records() if r.run_secs]
    records.sort(key=lambda r: median(float(s) for s in r.run_secs))
    return list(islice((r for r in records if _is_found(log, point_of(r.trace))), top))


def _is_found(log: TuningLog, point: AnyPoint) -> bool:
    """Whether `schedule.find` would take a point: the log may have been begun with fewer cores."""
    space, device = space_of(log.device), log.device
    layout = space.layout_of(log.workload, device, point.formulation)
    return pays(point.formulation, device) and space.within_bounds(layout, device, point)


def _described(
    log: TuningLog,
    winner: Schedule,
    times: list[float],
    default: list[float],
    measurer: AnyMeasurer,
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
            threads=measurer.threads,
            processor=measurer.processor(log.device),
        ),
        verification={"integers": "equal to the reference"},
        origin={
            "trials": sum(int(run["trials"]) for run in runs),
            "seed": runs[-1]["seed"] if runs else None,
            "tuned": runs[-1]["started"] if runs else None,
        },
    )
