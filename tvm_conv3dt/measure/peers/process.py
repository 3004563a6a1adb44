"""Starts, asks and ends an implementation's worker process, which may crash or hang without harm to the bench."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from tvm_conv3dt.measure.peers import Peer
from tvm_conv3dt.measure.peers.messages import (
    Failure,
    Prepare,
    Prepared,
    Progress,
    Ready,
    Samples,
    Turn,
)
from tvm_conv3dt.worker_process import WorkerLostError, WorkerProcess, WorkerTimeoutError

__all__ = ["Process"]

# Seconds, from the last word of progress on. Preparing verifies, and may compile; where it tunes it has more to say.
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
    on_progress : callable
        Is told what the worker is about, where it takes long.

    Attributes
    ----------
    version : str
        Of the framework, once it runs.
    """

    def __init__(
        self,
        name: str,
        peer: Peer,
        threads: int,
        folder: Path,
        on_progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.name = name
        self.version = ""
        self._peer = peer
        self._threads = threads
        self._on_progress = on_progress
        self._log = folder / f"{name}.log"
        self._worker: WorkerProcess | None = None

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
        failure = self._start() if self._worker is None else None
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
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _start(self) -> Failure | None:
        environment: dict[str, str | None] = {
            **dict.fromkeys(self._peer.dropped),
            **dict.fromkeys(_THREAD_VARIABLES, str(self._threads)),
            "TF_CPP_MIN_LOG_LEVEL": "2",  # TensorFlow's greetings are no news
            **dict(self._peer.variables),
        }
        arguments = [self._peer.module, str(self._threads), *self._peer.arguments]
        with self._log.open("wb") as log:
            self._worker = WorkerProcess(_WORKER, arguments, environment, log)
        answer: Ready | Failure = self._ask(None, START_TIMEOUT)
        if isinstance(answer, Failure):
            self.close()
            return answer
        self.version = answer.version
        return None

    def _ask(self, request: Prepare | Turn | None, timeout: float) -> Any:
        """Ask the worker, or with None wait for its first message; a worker that failed is gone."""
        worker = self._worker
        assert worker is not None, "prepare comes first"
        try:
            answer = worker.receive(timeout) if request is None else worker.ask(request, timeout)
            while isinstance(answer, Progress):
                self._on_progress(answer.text)
                answer = worker.receive(timeout)
            return answer
        except WorkerTimeoutError as error:
            self._worker = None
            return Failure("timeout", str(error))
        except WorkerLostError as error:
            self._worker = None
            return Failure(_kind(error.code), self._last_words())
        except BaseException:
            self._worker = None
            raise

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return last[:500] or "its process ended without a message"


def _kind(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"
