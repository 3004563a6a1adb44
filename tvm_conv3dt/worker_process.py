"""A Python process of this package's that answers requests: it may crash or hang without harm to who asks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

import tvm_conv3dt

__all__ = ["WorkerLostError", "WorkerProcess", "WorkerTimeoutError"]


class WorkerLostError(Exception):
    """The process ended; `code` is what it ended with, negative for a signal."""

    def __init__(self, code: int) -> None:
        super().__init__(f"it ended with {code}")
        self.code = code


class WorkerTimeoutError(Exception):
    """The process did not answer in time, and was ended."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:.0f} s")


class WorkerProcess:
    """A process that runs ``python -m MODULE DESCRIPTOR *ARGUMENTS`` and talks over the descriptor.

    After an error, and after an interruption with an answer under way, the process has ended.

    Parameters
    ----------
    module : str
        What it runs.
    arguments : sequence of str
        Its arguments after the connection's file descriptor.
    environment : mapping of str to str or None
        Variables beside this process's own; None takes one away.
    output : file, optional
        Takes the standard output and error; by default they are shared with this process.

    Raises
    ------
    OSError
        If it cannot be started.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str | None] | None = None,
        output: IO[bytes] | None = None,
    ) -> None:
        self._connection: Connection[Any, Any]
        self._connection, theirs = Pipe()
        # The worker finds this package where we found it, also where it is not installed.
        path = [str(Path(tvm_conv3dt.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        own = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
        variables = {
            name: value
            for name, value in {**own, **(environment or {})}.items()
            if value is not None
        }
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno()), *arguments],
                env=variables,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Who asks decides what an interruption means.
                start_new_session=True,
            )
        except OSError:
            self._connection.close()
            raise
        finally:
            theirs.close()

    def ask(self, request: object, timeout: float) -> Any:
        """Send a request and return the answer.

        Raises
        ------
        WorkerLostError
            If the process ends instead.
        WorkerTimeoutError
            If there is no answer within `timeout` seconds.
        """
        self.send(request)
        return self.receive(timeout)

    def send(self, request: object) -> None:
        """Send a request, whose answer `receive` returns; raises as `ask`."""
        try:
            self._connection.send(request)
        except OSError:
            raise self._lost() from None
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor that can be read when there is an answer: for ``multiprocessing.connection.wait``."""
        return self._connection.fileno()

    def receive(self, timeout: float) -> Any:
        """Return the next answer; raises as `ask`."""
        try:
            if self._connection.poll(timeout):
                return self._connection.recv()
        except (EOFError, OSError):
            raise self._lost() from None
        except BaseException:
            self.close()
            raise
        self.close()
        raise WorkerTimeoutError(timeout)

    def close(self, patience: float = 0.0) -> None:
        """End the process; it has `patience` seconds to do so itself once its connection is closed."""
        self._connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self._kill()

    def _lost(self) -> WorkerLostError:
        code = self._process.wait()
        self._kill()
        self._connection.close()
        return WorkerLostError(code)

    def _kill(self) -> None:
        """End the process, and what it has started: TVM's builders and runners would go on beside whatever is timed next."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
