"""Getting boards from the tracker: how many there are, asking for them, and how long to wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tvm_conv3dt.compiler.fleet.lane import HAVING_A_BOARD, Lane, State
from tvm_conv3dt.compiler.fleet.roster import Roster
from tvm_conv3dt.compiler.fleet.tracker import Address, Grant, NoTrackerError, Summary, Tracker
from tvm_conv3dt.errors import FleetError, describe

__all__ = ["FleetSettings", "Recruiter"]

_POLL_SECONDS = 2.0
_FIRST_TELLING_SECONDS = 3.0
_TELL_SECONDS = 30.0


@dataclass(frozen=True)
class FleetSettings:
    """Which boards to use, and how long to wait for what.

    Attributes
    ----------
    tracker : Address
        Where the tracker listens.
    key : str
        What the boards are asked for by.
    board_seconds : float
        How long a board may take over one candidate: to be sent it, to check and to time it.
    wait_seconds : float
        How long to wait where there is no board, or no tracker.
    most_boards : int
        How many boards to use at a time; each takes a process of some 400 MB here.
    """

    tracker: Address
    key: str
    board_seconds: float = 120.0
    wait_seconds: float = 120.0
    most_boards: int = 16


class Recruiter:
    """Asks the tracker on behalf of lanes, and gives up when nothing came for too long.

    Parameters
    ----------
    settings, roster
        What to ask for, and which boards not to take.
    tell : callable
        Told in one sentence what is being waited for.
    """

    def __init__(
        self, settings: FleetSettings, roster: Roster, tell: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._tell = tell
        self._tracker: Tracker | None = None
        self._summary = Summary({}, {})
        self._next_poll = 0.0
        self._next_telling = 0.0
        self._waiting_since: float | None = None
        self._trouble = ""

    def begin(self) -> None:
        """Count what is waited for from now on."""
        self._waiting_since = None

    def close(self) -> None:
        """Close the connection."""
        if self._tracker is not None:
            self._tracker.close()
            self._tracker = None

    def boards(self, lanes: list[Lane]) -> int:
        """Return how many lanes there should be: one for each board that can be used, and at least one.

        Raises
        ------
        FleetError
            If no lane has a board, and none came for longer than the settings allow, or none can.
        """
        now = time.monotonic()
        if now >= self._next_poll:
            self._next_poll = now + _POLL_SECONDS
            self._poll()
        states = {lane.state for lane in lanes}
        # While its process starts, a lane waits for nobody else; but without a tracker it does so in vain.
        if states & {*HAVING_A_BOARD} or (State.STARTING in states and not self._trouble):
            self._waiting_since = None
        else:
            self._wait(now)
        usable = [each for each in self._of_key() if each not in self._roster.left_out]
        return max(1, len(usable))

    def ask(self, lanes: list[Lane]) -> None:
        """Ask for a board for each of the lanes."""
        now = time.monotonic()
        for lane in lanes:
            if now < lane.not_before or self._tracker is None:
                continue
            try:
                lane.ask(self._settings.tracker, self._settings.key)
            except OSError as error:
                lane.stop_asking()
                lane.not_before = now + _POLL_SECONDS
                self._lost(error)
            except NoTrackerError as error:
                raise self._no_tracker(error) from error

    def grant(self, lane: Lane) -> Grant | None:
        """Return the board that a lane asked for; None where it is none to take."""
        try:
            grant = lane.granted()
        except OSError as error:
            self._lost(error)
            return None
        if grant.board in self._roster.left_out:
            # Its server offers it again after some seconds.
            lane.not_before = time.monotonic() + _POLL_SECONDS
            return None
        return grant

    def _of_key(self) -> tuple[Address, ...]:
        return self._summary.boards.get(self._settings.key, ())

    def _poll(self) -> None:
        try:
            if self._tracker is None:
                self._tracker = Tracker(self._settings.tracker)
            self._summary = self._tracker.summary()
            self._trouble = ""
        except OSError as error:
            self._lost(error)
        except NoTrackerError as error:
            raise self._no_tracker(error) from error

    def _lost(self, error: OSError) -> None:
        self.close()
        self._trouble = f"the tracker does not answer: {error.strerror or error}"

    def _wait(self, now: float) -> None:
        """Tell what is waited for; raise when it has been long enough."""
        of_key, left_out = self._of_key(), self._roster.left_out
        if not self._trouble and of_key and left_out and set(of_key) <= set(left_out):
            rule = f"no board of it can be used: {self._roster.reasons()}"
            raise FleetError(describe("measure on", "boards of key", self._settings.key, rule))
        if self._waiting_since is None:
            self._waiting_since, self._next_telling = now, now + _FIRST_TELLING_SECONDS
        waited = now - self._waiting_since
        if waited > self._settings.wait_seconds:
            raise self._waited_enough(waited)
        if now >= self._next_telling:
            self._next_telling = now + _TELL_SECONDS
            what = self._trouble or f"no free board of key {self._settings.key} yet"
            left = self._settings.wait_seconds - waited
            self._tell(f"{what}{self._what_there_is()}; waiting for {left:.0f} s more")

    def _what_there_is(self) -> str:
        return "" if self._trouble else f" (the tracker has: {self._summary.text()})"

    def _waited_enough(self, waited: float) -> FleetError:
        address = str(self._settings.tracker)
        if self._trouble:
            rule = f"{self._trouble}, for {waited:.0f} s"
            mend = "start it, or see to --tracker and to firewalls; what was measured is kept"
            return FleetError(describe("ask", "the tracker", address, rule, mend))
        rule = f"none was free for {waited:.0f} s{self._what_there_is()}"
        if self._roster.left_out:
            rule += f"; left out: {self._roster.reasons()}"
        mend = "start its server, or see to --key; what was measured is kept"
        return FleetError(describe("get", "a board of key", self._settings.key, rule, mend))

    def _no_tracker(self, error: NoTrackerError) -> FleetError:
        mend = "see to --tracker"
        address = str(self._settings.tracker)
        return FleetError(describe("ask", "the tracker", address, str(error), mend))
