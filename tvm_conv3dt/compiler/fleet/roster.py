"""Which boards of a fleet can be relied on."""

from __future__ import annotations

from collections.abc import Callable

from tvm_conv3dt.compiler.fleet.board import Board
from tvm_conv3dt.compiler.fleet.tracker import Address

__all__ = ["Roster"]

_MOST_FAILURES = 4
"""Of different candidates in a row, after which a board is left out."""


class Roster:
    """Counts what each board finished, and leaves out those that cannot be used.

    Parameters
    ----------
    tell : callable
        Told in one sentence of each board that is left out.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._failed: dict[Address, list[object]] = {}
        self._servers: dict[Address, str] = {}
        self.finished: dict[Address, int] = {}
        self.left_out: dict[Address, str] = {}

    def join(self, board: Address, about: Board | None) -> None:
        """Note what a board says of itself as a session begins."""
        self._servers[board] = "" if about is None else about.server

    def restarted(self, board: Address | None, about: Board | None) -> bool:
        """Whether a board's server has been started again since it said this of itself: no candidate ends a server."""
        if board is None or about is None or not about.server:
            return False
        return self._servers.get(board, about.server) != about.server

    def finish(self, board: Address) -> None:
        """Note that a board has judged a candidate."""
        self.finished[board] = self.finished.get(board, 0) + 1
        self._failed.pop(board, None)

    def fail(self, board: Address, culprit: object, reason: str) -> None:
        """Note that a session was lost; `culprit`, the candidate, may be to blame: only different ones in a row count."""
        failed = self._failed.setdefault(board, [])
        if culprit is None or culprit not in failed:
            failed.append(culprit)
        if len(failed) >= _MOST_FAILURES:
            self.leave_out(board, f"it failed {len(failed)} times in a row, last: {reason}")

    def leave_out(self, board: Address, reason: str) -> None:
        """Use a board no more."""
        if board not in self.left_out:
            self.left_out[board] = reason
            self._tell(f"board {board} is left out: {reason}")

    def reasons(self) -> str:
        """Say why boards are left out."""
        return "; ".join(f"{board}: {reason}" for board, reason in self.left_out.items())
