"""Measuring on all boards of a kind at once: candidates are built here, and go to whichever board is free."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from typing import Any

from tvm_conv3dt.compiler.fleet.lane import HAVING_A_BOARD, Job, Lane, Loss, State
from tvm_conv3dt.compiler.fleet.messages import Join, Lost, Unfit
from tvm_conv3dt.compiler.fleet.ping import listens
from tvm_conv3dt.compiler.fleet.recruiter import FleetSettings, Recruiter
from tvm_conv3dt.compiler.fleet.roster import Roster
from tvm_conv3dt.compiler.linker import linker_command
from tvm_conv3dt.compiler.search.measurer import AnyMeasurer, Failure, Request, Timed
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import TuningError, UnsupportedError, describe
from tvm_conv3dt.worker_process import WorkerLostError

__all__ = ["FleetMeasurer"]

# A candidate that lost so many sessions is to blame itself. One that hangs costs much, and has fewer; where boards
# vanished altogether, it is the likely reason only after many.
_MOST_LOSSES = {"crash": 3, "timeout": 2, "vanished": 6}
# A board ends a session after so long: one that this machine left without a word is free again then.
_SESSION_SECONDS = 900.0
_SESSION_CANDIDATES = 5
_TICK = 0.5


class FleetMeasurer(AnyMeasurer):
    """Measures on the boards that a tracker hands out.

    A board that vanishes or hangs costs nothing but time: its candidate goes to another, or to the same one when it is back.
    Each of its processes (`Lane`) holds one session; what they build is built on this machine.

    Parameters
    ----------
    device : Device
        What the boards are.
    threads : int
        Threads that candidates run on.
    settings : FleetSettings
        Which boards, and how long to wait for them.
    tell : callable, optional
        Told in one sentence of what the user should know: a board that is left out, or that there is none.

    Raises
    ------
    UnsupportedError
        If the device is a GPU.
    CompilerMissingError
        If nothing links for the boards.
    """

    def __init__(
        self,
        device: Device,
        threads: int,
        settings: FleetSettings,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        if device.kind != "llvm":
            rule = "only CPUs are measured through a tracker; tune on the machine with the GPU"
            raise UnsupportedError(describe("measure for", "device", device.name, rule))
        linker_command(device)
        self.threads = threads
        self._device = device
        self._settings = settings
        self._lanes: list[Lane] = []
        self._made = 0
        self._roster = Roster(tell)
        self._recruiter = Recruiter(settings, self._roster, tell)
        self._model = ""

    def __enter__(self) -> FleetMeasurer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def processor(self, device: Device) -> str:
        """Return what the boards are, as the last one that joined said it."""
        del device
        return self._model or f"unknown board of key {self._settings.key}"

    def require_runnable(self, device: Device) -> None:
        """Boards are looked at when they join."""

    def about(self) -> dict[str, Any]:
        """Return the key, and how many candidates each board judged."""
        finished = {str(board): count for board, count in self._roster.finished.items()}
        return {"fleet": {"key": self._settings.key, "boards": finished}}

    def measure(self, request: Request, timeout: float) -> Timed | Failure:
        """Measure one candidate on one board: the same one each time, as long as it lasts.

        Raises
        ------
        FleetError
            If there is no board, or the tracker does not answer, for longer than the settings allow.
        TuningError
            If no process can be started.
        """
        ((_, outcome),) = self._measure([(request, timeout)], most=1)
        return outcome

    def measure_each(
        self, requests: Iterable[tuple[Request, float]]
    ) -> Iterator[tuple[int, Timed | Failure]]:
        """Measure candidates on all boards that the tracker gives, and yield outcomes as they come; raises as `measure`."""
        return self._measure(requests, most=self._settings.most_boards)

    def close(self) -> None:
        """End all sessions."""
        for lane in self._lanes:
            lane.close()
        self._lanes.clear()
        self._recruiter.close()

    def _measure(
        self, requests: Iterable[tuple[Request, float]], most: int
    ) -> Iterator[tuple[int, Timed | Failure]]:
        for lane in [each for each in self._lanes if each.job is not None]:
            self._drop(lane)  # who asked was interrupted
        source = (Job(i, request, seconds) for i, (request, seconds) in enumerate(requests))
        waiting: deque[Job] = deque()
        exhausted = False
        self._recruiter.begin()
        try:
            while True:
                for lane in [each for each in self._lanes if each.state is State.FREE]:
                    job = waiting.popleft() if waiting else next(source, None)
                    if job is None:
                        exhausted = True
                        break
                    if not self._give(lane, job):
                        waiting.appendleft(job)
                if exhausted and not waiting and not any(each.job for each in self._lanes):
                    return
                having = sum(lane.state in HAVING_A_BOARD for lane in self._lanes)
                if having < most and (waiting or not exhausted):
                    self._recruit(most)
                for lane, answered in self._next():
                    yield from self._step(lane, answered, waiting)
        finally:
            for lane in self._lanes:
                lane.stop_asking()

    def _recruit(self, most: int) -> None:
        """See to it that there are as many lanes as boards, and ask for those that have none."""
        wanted = min(most, self._recruiter.boards(self._lanes))
        while len(self._lanes) < wanted:
            self._made += 1
            try:
                self._lanes.append(Lane(self._made))
            except OSError as error:
                raise self._cannot_start(str(error)) from error
        self._recruiter.ask([lane for lane in self._lanes if lane.state is State.IDLE])

    def _give(self, lane: Lane, job: Job) -> bool:
        """Give a lane its job; False where its session is over, or about to be."""
        if lane.fresh or lane.lasts(job.timeout + self._settings.board_seconds):
            try:
                lane.begin(job)
            except WorkerLostError:
                lane.job = None
            else:
                return True
        self._drop(lane)
        return False

    def _next(self) -> list[tuple[Lane, bool]]:
        """Wait a moment; return the lanes that have an answer, and with False those whose time is over."""
        awaited = {lane.awaited.fileno(): lane for lane in self._lanes if lane.awaited is not None}
        if awaited:
            found = [awaited[each] for each in wait(list(awaited), _TICK) if isinstance(each, int)]
        else:
            time.sleep(_TICK)
            found = []
        now = time.monotonic()
        late = [lane for lane in self._lanes if lane not in found and now > lane.deadline]
        return [(lane, True) for lane in found] + [(lane, False) for lane in late]

    def _step(
        self, lane: Lane, answered: bool, waiting: deque[Job]
    ) -> Iterator[tuple[int, Timed | Failure]]:
        """Take a lane's answer, or the lack of one, and go on."""
        if not answered:
            yield from self._lose(lane, waiting, "timeout", "it did not answer in time")
            return
        if lane.state is State.ASKING:
            self._take_board(lane)
            return
        joining = lane.state is State.JOINING
        try:
            answer = lane.answer(self._settings.board_seconds)
        except WorkerLostError as error:
            yield from self._lose(
                lane, waiting, "crash", f"its process here ended with {error.code}"
            )
            return
        if isinstance(answer, Unfit):
            assert lane.board is not None
            self._roster.leave_out(lane.board, answer.reason)
            self._drop(lane)
        elif isinstance(answer, Lost):
            yield from self._lose(lane, waiting, "crash", answer.reason)
        elif isinstance(answer, Timed | Failure):
            assert lane.board is not None
            self._roster.finish(lane.board)
            yield lane.done().index, answer
        elif joining:
            assert lane.board is not None
            self._roster.join(lane.board, lane.about)
            self._model = lane.about.model if lane.about is not None else self._model

    def _take_board(self, lane: Lane) -> None:
        grant = self._recruiter.grant(lane)
        if grant is None:
            return
        seconds = self._settings.board_seconds
        session = _SESSION_SECONDS + _SESSION_CANDIDATES * seconds
        try:
            lane.join(Join(grant, self._device, self.threads, session), seconds)
        except WorkerLostError:
            self._drop(lane)

    def _lose(
        self, lane: Lane, waiting: deque[Job], kind: str, reason: str
    ) -> Iterator[tuple[int, Timed | Failure]]:
        """End a lane whose session is lost; its job goes to the next one, unless it is to blame."""
        if lane.state is State.STARTING:
            raise self._cannot_start(reason)
        job, board = lane.job, lane.board
        self._drop(lane)
        if board is not None:
            self._roster.fail(board, job, reason)
        if job is None:
            return
        vanished = kind == "crash" and board is not None and not listens(board)
        job.lost.append(Loss("vanished" if vanished else kind, board, lane.about))
        losses = [self._kind(each) for each in job.lost]
        if losses.count(losses[-1]) >= _MOST_LOSSES[losses[-1]]:
            yield (
                job.index,
                Failure(kind, f"{len(job.lost)} sessions with boards were lost: {reason}"),
            )
        else:
            waiting.append(job)

    def _kind(self, loss: Loss) -> str:
        """Return of which kind a loss is, as far as is known by now: a board that came back at once had seemed to live."""
        vanished = loss.kind == "crash" and self._roster.restarted(loss.board, loss.about)
        return "vanished" if vanished else loss.kind

    def _drop(self, lane: Lane) -> None:
        lane.close()
        self._lanes.remove(lane)

    def _cannot_start(self, rule: str) -> TuningError:
        return TuningError(describe("start", "a measuring process", sys.executable, rule))
