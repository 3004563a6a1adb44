"""How many threads this process may really run at once.

The number of cores is the wrong answer in a container or under taskset: more threads than the kernel lets run make
every parallel loop wait for the one that was put to sleep.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["affinity", "available", "pool_arguments"]

_SHARE_ALL_CORES = -3  # TVM's AffinityMode kSpecifyThreadShareAllCore


def available() -> int:
    """Return how many threads may run at once: the affinity mask, less what a cgroup quota cuts off.

    Returns
    -------
    int
        At least 1. A quota of 2.5 cores counts as 3.
    """
    return max(1, min(len(affinity()), _quota(Path("/"))))


def affinity(thread: int = 0) -> list[int]:
    """Return the cores that a thread, by default the calling one, may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(thread))
    return list(range(os.cpu_count() or 1))


def pool_arguments(count: int, size: int) -> tuple[int, int, list[str]]:
    """Return the arguments of TVM's ``runtime.config_threadpool`` that give a pool `count` threads.

    Left to itself TVM makes its pool half as large as the machine has cores and binds the caller to the
    first ones. This leaves the affinity mask as it is, and binds nothing to a single core.

    Parameters
    ----------
    count : int
        Threads to use.
    size : int
        Threads to make: the pool cannot grow later. Idle ones sleep.
    """
    cores = affinity()
    listed = [str(cores[i % len(cores)]) for i in range(max(size, count, len(cores)))]
    return _SHARE_ALL_CORES, count, listed


def _quota(root: Path) -> int:
    # The tightest quota of the process's own cgroup and of all above it. Inside a container the path that the
    # kernel names may not be mounted; the mount's root, which always is looked at, is then the container's own.
    limits = [
        -(-quota // period)
        for folder in _groups(root)
        for quota, period in (_read_v2(folder), _read_v1(folder))
        if quota > 0 and period > 0
    ]
    return min(limits, default=os.cpu_count() or 1)


def _groups(root: Path) -> Iterator[Path]:
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            mount = root / "sys/fs/cgroup"
        elif "cpu" in controllers.split(","):
            mount = root / "sys/fs/cgroup" / controllers
            if not mount.is_dir():
                mount = root / "sys/fs/cgroup/cpu"
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        if ".." in inside.parts:  # a group outside of this namespace
            inside = PurePosixPath()
        for folder in (inside, *inside.parents):
            yield mount / folder


def _read_v2(folder: Path) -> tuple[int, int]:
    quota, period = [*_read(folder / "cpu.max").split(), "", ""][:2]
    return _number(quota), _number(period)


def _read_v1(folder: Path) -> tuple[int, int]:
    quota, period = (_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return _number(quota), _number(period)


def _number(text: str) -> int:
    # "max", "-1" and a missing file all mean no limit.
    return int(text) if text.isdecimal() else 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
