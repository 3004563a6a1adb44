"""One session of a fleet at a time: a process that builds candidates, and the board that it talks to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from tvm_conv3dt.compiler.fleet.board import Board
from tvm_conv3dt.compiler.fleet.messages import Built, Join, Joined
from tvm_conv3dt.compiler.fleet.tracker import Address, Grant, Tracker
from tvm_conv3dt.compiler.search.measurer import READY, Request
from tvm_conv3dt.worker_process import WorkerProcess

__all__ = ["HAVING_A_BOARD", "Job", "Lane", "Loss", "State"]

_START_SECONDS = 120.0
_END_SECONDS = 5.0
_WORKER = "tvm_conv3dt.compiler.fleet.worker"


class State(Enum):
    """How far a lane is."""

    STARTING = auto()  # its process starts
    IDLE = auto()  # it has no board
    ASKING = auto()  # the tracker has been asked for one
    JOINING = auto()  # a session begins
    FREE = auto()  # it has a board, and nothing to do
    BUSY = auto()  # it builds or measures a candidate


HAVING_A_BOARD = (State.JOINING, State.FREE, State.BUSY)


@dataclass(frozen=True)
class Loss:
    """Why a candidate had to be given to another: of what kind, and what the board said of itself, if there was one."""

    kind: str
    board: Address | None
    about: Board | None


@dataclass(eq=False)
class Job:
    """A candidate on its way: its number, and what has become of it so far."""

    index: int
    request: Request
    timeout: float
    lost: list[Loss] = field(default_factory=list)


class Lane:
    """A process and its board; it goes from `State` to `State` as its answers come.

    Raises
    ------
    OSError
        If the process cannot be started.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = State.STARTING
        self.board: Address | None = None
        self.about: Board | None = None
        self.job: Job | None = None
        self.not_before = 0.0
        """When to ask for a board again."""
        self.deadline = time.monotonic() + _START_SECONDS
        self.fresh = True
        """Whether it has been given nothing yet."""
        self._session_ends = 0.0
        self._asking: Tracker | None = None
        self._worker = WorkerProcess(_WORKER, [])

    @property
    def awaited(self) -> WorkerProcess | Tracker | None:
        """What its next step waits for: it can be read then."""
        if self.state is State.ASKING:
            return self._asking
        return self._worker if self.state in (State.STARTING, State.JOINING, State.BUSY) else None

    def ask(self, tracker: Address, key: str) -> None:
        """Ask the tracker for a board.

        Raises
        ------
        OSError, NoTrackerError
            If it does not answer.
        """
        self._asking = Tracker(tracker)
        self._asking.ask(key)
        self.state, self.deadline = State.ASKING, float("inf")

    def granted(self) -> Grant:
        """Return the board that the tracker gives; raises `OSError` if it does not answer any more."""
        assert self._asking is not None
        try:
            return self._asking.grant()
        finally:
            self.stop_asking()

    def stop_asking(self) -> None:
        """Take back what was asked for."""
        if self._asking is not None:
            self._asking.close()
            self._asking = None
            self.state = State.IDLE

    def join(self, message: Join, seconds: float) -> None:
        """Begin a session, which may take so many seconds."""
        self.board = message.grant.board
        now = time.monotonic()
        self.state, self.deadline = State.JOINING, now + seconds
        self._session_ends = now + message.seconds
        self._worker.send(message)

    def lasts(self, seconds: float) -> bool:
        """Whether the session lasts so long still."""
        return time.monotonic() + seconds < self._session_ends

    def begin(self, job: Job) -> None:
        """Build and measure a candidate."""
        self.job, self.fresh = job, False
        self.state, self.deadline = State.BUSY, time.monotonic() + job.timeout
        self._worker.send(job.request)

    def answer(self, board_seconds: float) -> Any:
        """Return the process's next answer, after going to the state that it means; None for one that asks for nothing.

        Raises
        ------
        WorkerLostError
            If the process has ended instead.
        """
        found = self._worker.receive(0.0)
        if found == READY:
            self.state, self.deadline = State.IDLE, float("inf")
            return None
        if isinstance(found, Joined):
            self.about = found.board
            self.state, self.deadline = State.FREE, float("inf")
            return None
        if isinstance(found, Built):
            self.deadline = time.monotonic() + board_seconds
            return None
        return found

    def done(self) -> Job:
        """Return the candidate whose outcome was the answer, and be free for another."""
        assert self.job is not None
        job, self.job = self.job, None
        self.state, self.deadline = State.FREE, float("inf")
        return job

    def close(self) -> None:
        """End the process, and with it its session.

        A session that is idle ends in order: a server of TVM's own serves nobody any more after one that was cut off.
        """
        self.stop_asking()
        self._worker.close(patience=_END_SECONDS if self.state is State.FREE else 0.0)
