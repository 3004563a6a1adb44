"""Tuning: MetaSchedule's search over our design space, verified and resumable."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_conv3dt import paths
from tvm_conv3dt.compiler.fleet.recruiter import FleetSettings
from tvm_conv3dt.compiler.measuring import measurer_for
from tvm_conv3dt.compiler.promote import Promotion, promote
from tvm_conv3dt.compiler.search.evolution import Search, SearchSettings
from tvm_conv3dt.compiler.search.log import TuningLog
from tvm_conv3dt.device import Device
from tvm_conv3dt.workload_set import NamedWorkload

__all__ = ["Progress", "tune"]


@dataclass(frozen=True)
class Progress:
    """Where a tuning run stands, after each trial.

    Attributes
    ----------
    name : str
        The workload's name.
    index, count : int
        Which workload of how many, from 0.
    trial, trials : int
        Trials of this workload so far, and in all.
    milliseconds : float or None
        Median time of this trial; None where it failed.
    failure : str or None
        Its kind: ``"compile"``, ``"wrong"``, ``"crash"`` or ``"timeout"``.
    best_ms : float or None
        Best median so far.
    """

    name: str
    index: int
    count: int
    trial: int
    trials: int
    milliseconds: float | None
    failure: str | None
    best_ms: float | None


def tune(
    named: Sequence[NamedWorkload],
    device: Device,
    *,
    trials: int = 64,
    time_limit: float | None = None,
    logs: Path | None = None,
    schedules: Path | None = None,
    seed: int = 0,
    threads: int | None = None,
    top: int = 3,
    fleet: FleetSettings | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> list[Promotion]:
    """Search for the best schedule of each workload, and promote what verified.

    Small workloads come first. Every record is on disk when its trial ends: a run that is interrupted
    or killed loses at most the trial under way, and the same call goes on where it stopped.

    Parameters
    ----------
    named : sequence of NamedWorkload
        What to tune.
    device : Device
        What to tune for: this machine, as a device, or the boards of `fleet`.
    trials : int
        Candidates for each workload, those of earlier runs counted in.
    time_limit : float, optional
        Seconds for all workloads together; each gets an equal share of what is left.
    logs, schedules : Path, optional
        Folders to write to; the working directory's by default.
    seed : int
        Of everything that is drawn.
    threads : int, optional
        What candidates run on; by default all that the process may use, on a fleet as many as the device has cores.
    top : int
        How many of the best to time again before one is promoted.
    fleet : FleetSettings, optional
        The boards to measure on, all of them the device; this machine by default.
    on_progress : callable, optional
        Called after each trial.
    on_note : callable, optional
        Called with a sentence where the user should know of something: a board that is left out, or none that is free.

    Returns
    -------
    list of Promotion
        What was promoted, in the order of tuning.

    Raises
    ------
    UnsupportedError
        If a workload, or the device, cannot be compiled for yet: before anything is tuned.
    DeviceError
        If this machine is to run the device's code, and cannot.
    FleetError
        If the fleet's tracker does not answer, or no board can be used. What was measured is kept.
    TuningError
        If no candidate of a workload was right.
    SignatureError
        If a log is of another TVM, definition or device.
    """
    _quieten()
    logs = paths.user_logs() if logs is None else logs
    schedules = paths.user_schedules() if schedules is None else schedules
    end = None if time_limit is None else time.monotonic() + time_limit
    promotions = []
    with measurer_for(device, threads, fleet, on_note) as measurer:
        ordered = sorted(named, key=lambda each: each.workload.flops)
        for index, each in enumerate(ordered):
            deadline = None
            if end is not None:
                now = time.monotonic()
                deadline = now + max(0.0, end - now) / (len(ordered) - index)
            log = TuningLog(logs, device, each.workload)

            def report(
                trial: int,
                milliseconds: float | None,
                failure: str | None,
                index: int = index,
                name: str = each.name,
            ) -> None:
                if on_progress is not None:
                    found = search.best_seconds < float("inf")
                    best = search.best_seconds * 1e3 if found else None
                    on_progress(
                        Progress(
                            name, index, len(ordered), trial, trials, milliseconds, failure, best
                        )
                    )

            settings = SearchSettings(trials, deadline, seed, measurer.threads)
            search = Search(log, settings, measurer, report)
            with log.writing():
                search.run()
            promotions += promote(
                [each], device, logs=logs, schedules=schedules, top=top, measurer=measurer
            )
    return promotions


def _quieten() -> None:
    # MetaSchedule logs each step to standard error; what a user needs to know comes through `Progress`.
    for name in ("tvm.s_tir.meta_schedule", "tvm"):
        logging.getLogger(name).setLevel(logging.ERROR)
