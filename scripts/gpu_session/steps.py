"""The steps of a session: commands with a log, times, and results that are on disk at any moment."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["Steps", "Stopped", "write"]

_PATIENCE = 20.0  # seconds that a step gets to end after it was told to


class Stopped(Exception):
    """A signal to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Steps:
    """Runs commands one after another, with a log, the time that each took, and a summary on disk at any time."""

    def __init__(self, results: Path, environment: dict[str, str], folder: Path) -> None:
        self.results = results
        self.environment = environment
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        results.mkdir(parents=True, exist_ok=True)
        self._log = (results / "session.log").open("ab", buffering=0)
        self.say(f"session begins, {time.strftime('%Y-%m-%d %H:%M:%S %z')}")

    def say(self, text: str) -> None:
        """Tell on stderr, and in the log."""
        self._write(f"==> {text}\n".encode())

    def run(
        self, name: str, command: Sequence[str | Path], limit: float, output: str | None = None
    ) -> bool:
        """Run one step, and return whether it succeeded; `output` is the file of results for its stdout."""
        words = [str(word) for word in command]
        with self.step(name) as row:
            self._write(f"$ {shlex.join(words)}\n".encode())
            row["exit"], row["status"] = self._run(words, limit, output)
        if output is not None and output.endswith(".txt"):
            self._write((self.results / output).read_bytes())
        return bool(row["status"] == "ok")

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """Time a step, and keep its status: ``failed`` unless it is set, or it raises nothing."""
        row: dict[str, Any] = {"step": name, "status": "ok", "seconds": 0.0}
        self.rows.append(row)
        self.say(name)
        start = time.monotonic()
        try:
            yield row
        except Stopped:
            row["status"] = "stopped"
            raise
        except BaseException:
            row["status"] = "failed"
            raise
        finally:
            row["seconds"] = round(time.monotonic() - start, 1)
            self.say(f"{name}: {row['status']}, {row['seconds']} s")
            self.write_summary()

    def skip(self, name: str, why: str) -> None:
        """Keep that a step was not begun."""
        self.rows.append({"step": name, "status": "skipped", "seconds": 0.0, "why": why})
        self.say(f"{name}: skipped, {why}")

    def table(self) -> list[str]:
        """Return the steps with their status and time, as lines."""
        return [f"{row['status']:<8} {row['seconds']:>8.1f} s  {row['step']}" for row in self.rows]

    def write_summary(self) -> None:
        """Write what there is to bring back: the summary, and all results as one file."""
        write(self.results / "summary.json", json.dumps({"steps": self.rows}, indent=1) + "\n")
        write(self.results / "summary.txt", "".join(f"{line}\n" for line in self.table()))
        whole = self.results.with_suffix(".tar")
        with tarfile.open(partial := whole.with_suffix(".partial"), "w") as archive:
            archive.add(self.results, self.results.name)
        partial.replace(whole)

    def _run(self, words: list[str], limit: float, output: str | None) -> tuple[int | None, str]:
        with contextlib.ExitStack() as scope:
            stdout: BinaryIO | int = subprocess.STDOUT
            if output is not None:
                path = self.results / output
                path.parent.mkdir(parents=True, exist_ok=True)
                stdout = scope.enter_context(path.open("wb"))
            told = subprocess.PIPE
            try:
                # A session of its own: a key pressed at the terminal reaches it once, through `_end`.
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=told if output is None else stdout,
                    stderr=subprocess.STDOUT if output is None else told,
                    env=self.environment,
                    cwd=self.folder,
                    start_new_session=True,
                )
            except OSError as error:
                self.say(f"failed to start {words[0]}: {error}")
                return None, "failed"
            pipe = process.stdout if output is None else process.stderr
            reader = threading.Thread(target=self._copy, args=(pipe,), daemon=True)
            reader.start()
            try:
                process.wait(limit)
                status = "ok" if process.returncode == 0 else "failed"
            except subprocess.TimeoutExpired:
                status = "timeout"
                self.say(f"ended after {limit:.0f} s")
            finally:
                _end(process)
                reader.join(5.0)
        return process.returncode, status

    def _copy(self, pipe: Any) -> None:
        with pipe:
            for line in iter(pipe.readline, b""):
                self._write(line)

    def _write(self, data: bytes) -> None:
        self._log.write(data)
        # Whoever reads along may be gone.
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), data)


def write(path: Path, text: str) -> None:
    """Write a file that is whole at any time."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a step and all that it started: first as a user would, so that it can put its files in order."""
    if process.poll() is None:
        _signal(process, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
