"""A lock that a forked child process finds open, whatever thread of the parent held it."""

from __future__ import annotations

import os
import threading
from types import TracebackType

__all__ = ["Lock"]


class Lock:
    """A reentrant lock, used in a ``with`` statement, and never deleted: made once for a module."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.RLock()
