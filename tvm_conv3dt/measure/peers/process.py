"""Starts, asks and ends an implementation's worker process, which may crash or hang without harm to the bench."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import tvm_conv3dt
from tvm_conv3dt.measure.peers import Peer
from tvm_conv3dt.measure.peers.messages import Failure, Prepare, Prepared, Ready, Samples, Turn

__all__ = ["Process"]

# Seconds. Preparing verifies, and may compile.
START_TIMEOUT = 300.0
PREPARE_TIMEOUT = 600.0
TURN_TIMEOUT = 120.0

_WORKER = "tvm_conv3dt.measure.peers.worker"

# Every library that may multiply or loop in parallel, before it is imported; frameworks are told again.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TVM_NUM_THREADS",
)


class Process:
    """A worker that is started when it is asked for the first time, and again after it was lost.

    A context manager: at its end the worker has ended too.

    Parameters
    ----------
    name : str
        Of the implementation.
    peer : Peer
        Where the implementation is.
    threads : int
        How many it may use.
    folder : Path
        Gets the worker's output.

    Attributes
    ----------
    version : str
        Of the framework, once it runs.
    """

    def __init__(self, name: str, peer: Peer, threads: int, folder: Path) -> None:
        self.name = name
        self.version = ""
        self._peer = peer
        self._threads = threads
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def prepare(self, request: Prepare) -> Prepared | Failure:
        """Get a layer ready and checked."""
        failure = self._start() if self._connection is None else None
        if failure is not None:
            return failure
        answer: Prepared | Failure = self._ask(request, PREPARE_TIMEOUT)
        return answer

    def turn(self, request: Turn) -> Samples | Failure:
        """Time a variant of the layer that is ready."""
        answer: Samples | Failure = self._ask(request, TURN_TIMEOUT + request.seconds)
        return answer

    def close(self) -> None:
        """End the worker."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> Failure | None:
        ours, theirs = Pipe()
        self._connection = ours
        # The worker finds this package where we found it, also where it is not installed.
        path = [str(Path(tvm_conv3dt.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            **dict.fromkeys(_THREAD_VARIABLES, str(self._threads)),
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "TF_CPP_MIN_LOG_LEVEL": "2",  # TensorFlow's greetings are no news
        }
        words = [str(theirs.fileno()), self._peer.module, str(self._threads)]
        with theirs, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _WORKER, *words, *self._peer.arguments],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # An interruption is ours to handle: the worker ends with `close`.
                start_new_session=True,
            )
        answer: Ready | Failure = self._receive(START_TIMEOUT)
        if isinstance(answer, Failure):
            self.close()
            return answer
        self.version = answer.version
        return None

    def _ask(self, request: Prepare | Turn, timeout: float) -> Any:
        assert self._connection is not None, "prepare comes first"
        try:
            self._connection.send(request)
        except OSError:
            return self._lost()
        return self._receive(timeout)

    def _receive(self, timeout: float) -> Any:
        assert self._connection is not None
        try:
            if self._connection.poll(timeout):
                return self._connection.recv()
        except (EOFError, OSError):
            return self._lost()
        except BaseException:
            # Interrupted with an answer under way: the connection cannot be used again.
            self.close()
            raise
        self.close()
        return Failure("timeout", f"no answer within {timeout:.0f} s")

    def _lost(self) -> Failure:
        assert self._process is not None
        code = self._process.wait()
        self.close()
        try:
            kind = signal.Signals(-code).name
        except ValueError:
            kind = f"exit code {code}"
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return Failure(kind, last[:500] or "its process ended without a message")
