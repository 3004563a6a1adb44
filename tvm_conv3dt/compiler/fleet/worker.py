"""The process that holds one session: ``python -m tvm_conv3dt.compiler.fleet.worker DESCRIPTOR``.

It takes a `Join`, then `Request` after `Request`, builds each candidate here and has it measured on the board. It ends with
its session: whoever wants another starts another process.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any

# tvm-ffi imports PyTorch where it is installed, which takes longer than all the rest, and each session starts a process.
sys.modules["torch"] = None  # type: ignore[assignment]

from tvm_conv3dt.compiler.definition import AnyLayout
from tvm_conv3dt.compiler.fleet.messages import Built, Join, Joined, Lost, Unfit
from tvm_conv3dt.compiler.fleet.session import Library, Session, UnfitBoardError, build
from tvm_conv3dt.compiler.search.measurer import READY, Candidate, Failure, Request, Timed
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import Conv3dtError

__all__ = ["main"]


@lru_cache(maxsize=8)
def _built(layout: AnyLayout, device: Device, trace: str) -> Library:
    return build(Candidate(layout, json.loads(trace)), device)


def _library(candidate: Candidate, device: Device) -> Library:
    return _built(candidate.layout, device, json.dumps(candidate.trace))


def _join(connection: Connection[Any, Any], join: Join) -> Session | None:
    try:
        session = Session(join)
    except UnfitBoardError as error:
        connection.send(Unfit(str(error)))
    except Exception as error:  # TVM raises its own kinds
        connection.send(Lost(_first_line(error)))
    else:
        connection.send(Joined(session.about))
        return session
    return None


def _measure(
    connection: Connection[Any, Any], session: Session, request: Request
) -> Timed | Failure | Lost:
    baseline = request.baseline
    try:
        library = _library(request.candidate, request.device)
        other = None if baseline is None else _library(baseline.candidate, request.device)
    except Conv3dtError as error:
        return Failure("compile", str(error))
    connection.send(Built())
    try:
        return session.measure(request, library, other)
    except Exception as error:  # TVM raises its own kinds
        if session.alive():
            return Failure("crash", _first_line(error))
        return Lost(_first_line(error))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:300]


def main() -> None:
    """Answer until the connection or the session ends."""
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    with suppress(EOFError, ConnectionError):  # who asks is gone
        connection.send(READY)
        session = _join(connection, connection.recv())
        while session is not None:
            outcome = _measure(connection, session, connection.recv())
            connection.send(outcome)
            if isinstance(outcome, Lost):
                return


if __name__ == "__main__":
    main()
