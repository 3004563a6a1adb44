"""Progress on stderr: a bar with the time left on a terminal, one line per step elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tvm_conv3dt.cli import output


class Steps:
    """One bar that advances step by step; made by `steps`."""

    def __init__(self, progress: Progress, task: TaskID, lines: bool) -> None:
        self._progress = progress
        self._task = task
        self._lines = lines
        self._following = False

    def begin(self, text: str) -> None:
        """Say which step is being done."""
        self._progress.update(self._task, description=text)
        if self._lines:
            output.remark(text)

    def advance(self, count: float = 1) -> None:
        """Say that steps are done."""
        self._progress.advance(self._task, count)

    def follow(self, text: str) -> None:
        """Begin a step, which ends the one before it: for callees that name what they are doing."""
        if self._following:
            self.advance()
        self._following = True
        self.begin(text)

    def finished(self, count: float) -> None:
        """Say how many steps are done in all."""
        self._progress.update(self._task, completed=count)

    def remark(self, text: str) -> None:
        """Write a line that stays, above the bar."""
        if self._lines:
            output.remark(text)
        else:
            self._progress.console.print(text)


@contextmanager
def steps(title: str, total: int | None = None) -> Iterator[Steps]:
    """Show progress while the block runs.

    Parameters
    ----------
    title
        What is being done, before the first `Steps.begin`.
    total
        Number of steps; None where it is not known.
    """
    console = output.stderr()
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        yield Steps(progress, progress.add_task(title, total=total), not console.is_terminal)
