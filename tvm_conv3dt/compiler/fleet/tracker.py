"""The tracker as its clients see it: which boards there are, and asking for one."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Any

from tvm.rpc import base

__all__ = ["Address", "Grant", "NoTrackerError", "Queue", "Summary", "Tracker"]

_SECONDS = 5.0
"""That the tracker may take to answer: it is one small program on the local network."""


class NoTrackerError(Exception):
    """What listens at the address is no tracker: there is nothing to wait for."""


@dataclass(frozen=True)
class Address:
    """Where a tracker or a board listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Queue:
    """How many boards of a key are free, and how many askers wait for one."""

    free: int
    waiting: int


@dataclass(frozen=True)
class Summary:
    """What the tracker knows: the boards of each key, and its queue."""

    boards: dict[str, tuple[Address, ...]]
    queues: dict[str, Queue]

    def text(self) -> str:
        """Say in a few words what there is."""
        told = [
            f"{len(boards)} of key {key}, {self.queues.get(key, Queue(0, 0)).free} free"
            for key, boards in sorted(self.boards.items())
        ]
        return "; ".join(told) or "no boards"


@dataclass(frozen=True)
class Grant:
    """The right to one session with a board; unused, it ends after some seconds."""

    board: Address
    match_key: str


class Tracker:
    """A connection to the tracker; ready to be read (`fileno`) when an answer is there.

    Parameters
    ----------
    address : Address
        Where it listens.

    Raises
    ------
    OSError
        If it does not answer.
    NoTrackerError
        If something else does.
    """

    def __init__(self, address: Address) -> None:
        self._socket = socket.create_connection((address.host, address.port), _SECONDS)
        try:
            self._socket.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
            (magic,) = struct.unpack("<i", base.recvall(self._socket, 4))
            if magic != base.RPC_TRACKER_MAGIC:
                raise NoTrackerError(f"what answers at {address} is no tracker")
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection, which takes back what was asked for."""
        self._socket.close()

    def summary(self) -> Summary:
        """Return what the tracker knows.

        Raises
        ------
        OSError
            If it does not answer.
        """
        base.sendjson(self._socket, [base.TrackerCode.SUMMARY])
        value = self._answer()
        boards: dict[str, tuple[Address, ...]] = {}
        for server in value["server_info"]:
            key = str(server["key"]).partition(":")[2]
            host, port = server["addr"]
            boards[key] = (*boards.get(key, ()), Address(str(host), int(port)))
        queues = {
            str(key): Queue(int(queue["free"]), int(queue["pending"]))
            for key, queue in value["queue_info"].items()
        }
        return Summary(boards, queues)

    def ask(self, key: str) -> None:
        """Ask for a board; `grant` returns it once there is an answer to read. Raises as `summary`."""
        base.sendjson(self._socket, [base.TrackerCode.REQUEST, key, "", 1])

    def grant(self) -> Grant:
        """Return the board that was asked for; raises as `summary`."""
        host, port, match_key = self._answer()
        return Grant(Address(str(host), int(port)), str(match_key))

    def _answer(self) -> Any:
        try:
            code, value = base.recvjson(self._socket)
        except (ValueError, TypeError, struct.error) as error:
            raise OSError(f"its answer cannot be read: {error}") from error
        if code != base.TrackerCode.SUCCESS:
            raise OSError(f"it answered with {code}")
        return value
