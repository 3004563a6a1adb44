"""Measuring candidates in a process of their own, which may crash or hang without harm to the search."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tvm_conv3dt.compiler.definition import AnyLayout
from tvm_conv3dt.compiler.target import processor_name, require_runnable
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import TuningError, describe
from tvm_conv3dt.worker_process import WorkerLostError, WorkerProcess, WorkerTimeoutError

__all__ = [
    "CRASH",
    "READY",
    "AnyMeasurer",
    "Baseline",
    "Candidate",
    "Failure",
    "Measurer",
    "Request",
    "Timed",
]

READY = "ready"
"""The worker's first message."""

CRASH = "crash"
"""The kind of a failure after which the worker is good for nothing more."""

_WORKERS = {"llvm": "worker", "cuda": "gpu_worker"}
_START_TIMEOUT = 120.0


@dataclass(frozen=True)
class Candidate:
    """One way to compute a workload: a layout, and MetaSchedule's trace in JSON form."""

    layout: AnyLayout
    trace: list[Any]


@dataclass(frozen=True)
class Baseline:
    """A candidate whose seconds are known, to be timed in turns with others.

    A machine that others use too runs at half its speed now and then: a candidate's seconds are told as if the
    baseline took `seconds` at that moment as well.
    """

    candidate: Candidate
    seconds: float


@dataclass(frozen=True)
class Request:
    """A candidate to build, verify and time.

    Attributes
    ----------
    seconds : float
        How long to time it, about; at least three calls are timed.
    give_up_seconds : float
        A first call that takes longer than this is the only one.
    baseline : Baseline or None
        What to time it in turns with.
    """

    candidate: Candidate
    device: Device
    seconds: float
    give_up_seconds: float
    baseline: Baseline | None = None


@dataclass(frozen=True)
class Timed:
    """The seconds of each timed call, of a candidate that was exact on integers.

    `board` is the address of the board of a fleet that it ran on; empty for this machine.
    """

    seconds: tuple[float, ...]
    workspace_bytes: int
    board: str = ""


@dataclass(frozen=True)
class Failure:
    """Why a candidate has no time.

    `kind` is ``"compile"``, ``"wrong"``, ``"crash"`` or ``"timeout"``.
    """

    kind: str
    message: str


class AnyMeasurer(ABC):
    """Who builds, verifies and times candidates: here, or on the boards of a fleet.

    Attributes
    ----------
    threads : int
        Threads that candidates run on.
    """

    threads: int

    @abstractmethod
    def measure(self, request: Request, timeout: float) -> Timed | Failure:
        """Build, verify and time a candidate; building may take `timeout` seconds."""

    def measure_each(
        self, requests: Iterable[tuple[Request, float]]
    ) -> Iterator[tuple[int, Timed | Failure]]:
        """Measure candidates as they are proposed, and yield each one's number and outcome when it is known.

        `requests` holds pairs as `measure` takes them. One is taken when there is somewhere to measure it.
        """
        for index, (request, timeout) in enumerate(requests):
            yield index, self.measure(request, timeout)

    def require_runnable(self, device: Device) -> None:
        """Refuse a device whose code cannot run where candidates are measured: on this machine.

        Raises
        ------
        PlatformError, DeviceError
            As `target.require_runnable`.
        """
        require_runnable(device)

    def about(self) -> dict[str, Any]:
        """Return what a run's record says of where its candidates ran, beside their threads."""
        return {}

    def processor(self, device: Device) -> str:
        """Return the name of what candidates for `device` run on, for records that people read."""
        return processor_name(device)


class Measurer(AnyMeasurer):
    """A worker process that is started when needed, and started again when it is lost.

    Parameters
    ----------
    threads : int
        Threads that candidates run on.
    kind : str
        Of their devices: ``"llvm"`` or ``"cuda"``.
    """

    def __init__(self, threads: int, kind: str = "llvm") -> None:
        self.threads = threads
        self._module = f"{__package__}.{_WORKERS[kind]}"
        self._worker: WorkerProcess | None = None

    def __enter__(self) -> Measurer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def measure(self, request: Request, timeout: float) -> Timed | Failure:
        """Build, verify and time a candidate; return within about `timeout` seconds.

        Raises
        ------
        TuningError
            If no worker can be started: that is no candidate's fault.
        """
        worker = self._worker = self._worker or self._start()
        try:
            answer: Timed | Failure = worker.ask(request, timeout)
        except WorkerTimeoutError as error:
            self._worker = None
            return Failure("timeout", str(error))
        except WorkerLostError as error:
            self._worker = None
            return Failure(CRASH, f"the measuring process ended with {error.code}")
        except BaseException:
            self._worker = None
            raise
        if isinstance(answer, Failure) and answer.kind == CRASH:
            self.close()
        return answer

    def close(self) -> None:
        """End the worker process."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _start(self) -> WorkerProcess:
        try:
            worker = WorkerProcess(self._module, [str(self.threads)])
            worker.receive(_START_TIMEOUT)  # READY
        except WorkerLostError:
            rule = "it ended at once; its own message is above"
        except WorkerTimeoutError:
            rule = f"it was not ready within {_START_TIMEOUT:.0f} s"
        except OSError as error:
            rule = str(error)
        else:
            return worker
        raise TuningError(describe("start", "the measuring process", sys.executable, rule))
