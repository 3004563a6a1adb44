"""What a measurer and the process that holds a session with a board say to each other, beside requests and outcomes."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_conv3dt.compiler.fleet.board import Board
from tvm_conv3dt.compiler.fleet.tracker import Grant
from tvm_conv3dt.device import Device

__all__ = ["Built", "Join", "Joined", "Lost", "Unfit"]


@dataclass(frozen=True)
class Join:
    """Begin a session with a board.

    Attributes
    ----------
    threads : int
        That candidates run on.
    seconds : float
        After so long the board ends the session by itself.
    """

    grant: Grant
    device: Device
    threads: int
    seconds: float


@dataclass(frozen=True)
class Joined:
    """There is a session; `board` is None where its server does not tell what it is."""

    board: Board | None


@dataclass(frozen=True)
class Unfit:
    """The board cannot run code for the device, ever."""

    reason: str


@dataclass(frozen=True)
class Built:
    """A candidate is compiled and linked, and goes to the board now."""


@dataclass(frozen=True)
class Lost:
    """The session is gone, or was never there."""

    reason: str
