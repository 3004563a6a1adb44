"""Measuring candidates in a process of their own, which may crash or hang without harm to the search."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import tvm_conv3dt
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import TuningError, describe

__all__ = ["READY", "Failure", "Measurer", "Request", "Timed"]

READY = "ready"
"""The worker's first message."""

_START_TIMEOUT = 120.0


@dataclass(frozen=True)
class Request:
    """A candidate to build, verify and time.

    Attributes
    ----------
    trace : list
        MetaSchedule's trace in JSON form.
    seconds : float
        How long to time it, about; at least three calls are timed.
    give_up_seconds : float
        A first call that takes longer than this is the only one.
    """

    layout: Layout
    device: Device
    trace: list[Any]
    seconds: float
    give_up_seconds: float


@dataclass(frozen=True)
class Timed:
    """The seconds of each timed call, of a candidate that was exact on integers."""

    seconds: tuple[float, ...]
    workspace_bytes: int


@dataclass(frozen=True)
class Failure:
    """Why a candidate has no time.

    `kind` is ``"compile"``, ``"wrong"``, ``"crash"`` or ``"timeout"``.
    """

    kind: str
    message: str


class Measurer:
    """A worker process that is started when needed, and started again when it is lost.

    Parameters
    ----------
    threads : int
        Threads that candidates run on.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None

    def __enter__(self) -> Measurer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def measure(self, request: Request, timeout: float) -> Timed | Failure:
        """Build, verify and time a candidate; return within about `timeout` seconds."""
        try:
            connection = self._connect()
            connection.send(request)
            if not connection.poll(timeout):
                self.close()
                return Failure("timeout", f"no answer within {timeout:.0f} s")
            answer: Timed | Failure = connection.recv()
        except (EOFError, OSError):
            process = self._process
            code = process.wait() if process else None
            self.close()
            return Failure("crash", f"the measuring process ended with {code}")
        except BaseException:
            # Interrupted with an answer under way: the connection cannot be used again.
            self.close()
            raise
        return answer

    def close(self) -> None:
        """End the worker process."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _connect(self) -> Connection[Any, Any]:
        if self._connection is None:
            ours, theirs = Pipe()
            # The worker finds this package where we found it, also where it is not installed.
            path = [str(Path(tvm_conv3dt.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
            try:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "tvm_conv3dt.compiler.search.worker",
                        str(theirs.fileno()),
                        str(self.threads),
                    ],
                    env=environment,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    # The search decides what an interruption means; the worker ends with its connection.
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise _not_started(str(error)) from error
            finally:
                theirs.close()
            self._connection = ours
            self._greet(ours)
        return self._connection

    def _greet(self, connection: Connection[Any, Any]) -> None:
        """Wait until the worker is ready: that it cannot start is no candidate's fault."""
        try:
            if connection.poll(_START_TIMEOUT) and connection.recv() == READY:
                return
            rule = f"it was not ready within {_START_TIMEOUT:.0f} s"
        except (EOFError, OSError):
            rule = "it ended at once; its own message is above"
        self.close()
        raise _not_started(rule)


def _not_started(rule: str) -> TuningError:
    return TuningError(describe("start", "the measuring process", sys.executable, rule))
