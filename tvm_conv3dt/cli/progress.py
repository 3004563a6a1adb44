"""Progress on stderr: a bar with the time left on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tvm_conv3dt.cli import output


class Steps:
    """Work that is done step by step; made by `steps`."""

    def __init__(self, progress: Progress, task: TaskID, total: float) -> None:
        self._progress = progress
        self._task = task
        self._total = total
        self._done = 0.0
        self._begun = False
        self._started = time.monotonic()

    def begin(self, text: str) -> None:
        """Begin a step, which ends the one before it."""
        if self._begun:
            self.done(self._done + 1)
        self._begun = True
        self.describe(text)
        if self._progress.disable:
            output.remark(text)

    def extend(self, count: int) -> None:
        """Have so many more steps to come."""
        self._total += count
        self._progress.update(self._task, total=self._total)

    def describe(self, text: str) -> None:
        """Change the bar's text."""
        self._progress.update(self._task, description=text)

    def done(self, count: float) -> None:
        """Say how many steps are done in all."""
        self._done = count
        self._progress.update(self._task, completed=count)

    def remark(self, text: str) -> None:
        """Write a line that stays."""
        if self._progress.disable:
            output.remark(text)
        else:
            self._progress.console.print(text)

    def elapsed(self) -> float:
        """Return the seconds since the work began."""
        return time.monotonic() - self._started

    def left(self) -> str:
        """Return the time left, as minutes and seconds, if the rest goes at the speed so far."""
        if not self._done:
            return "?"
        seconds = self.elapsed() * max(0.0, self._total / self._done - 1)
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@contextmanager
def steps(text: str, total: float) -> Iterator[Steps]:
    """Show progress while the block runs.

    Parameters
    ----------
    text
        What is being done, before the first `Steps.begin`.
    total
        Number of steps.
    """
    console = output.stderr()
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        yield Steps(progress, progress.add_task(text, total=total), total)
