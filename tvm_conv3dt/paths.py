"""Where schedules and tuning logs are looked for.

The ones that come with the package are read-only. In an installed package they lie inside it,
under ``_data``; in a checkout they are the repository's own top-level folders. A user's own are
in the working directory unless a command is told otherwise, and are looked at first.
"""

from __future__ import annotations

import os
from pathlib import Path

from tvm_conv3dt.files import real_path

_PACKAGE = Path(__file__).resolve().parent


def packaged_schedules() -> Path:
    """Folder of the schedules that ship with the package; it may be absent."""
    return _packaged("schedules")


def packaged_logs() -> Path:
    """Folder of the tuning logs that ship with the package; it may be absent."""
    return _packaged("tuning_logs")


def user_schedules() -> Path:
    """Default folder of the user's own schedules."""
    return Path("schedules")


def user_logs() -> Path:
    """Default folder of the user's own tuning logs."""
    return Path("tuning_logs")


def user_cache() -> Path:
    """Folder of what can be made again: ``TVM_CONV3DT_CACHE``, else the platform's own place for caches.

    The latter is known where the compiler is installed, which brings the package `platformdirs`.
    """
    named = os.environ.get("TVM_CONV3DT_CACHE")
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("tvm-conv3dt")


def schedule_folders(own: Path | None = None) -> list[Path]:
    """Folders to look for a schedule in, nearest first.

    Parameters
    ----------
    own
        The user's folder; `user_schedules` if None.

    Returns
    -------
    list of Path
        The user's folder and the packaged one, each once.
    """
    own = user_schedules() if own is None else own
    packaged = packaged_schedules()
    return [own] if real_path(own) == real_path(packaged) else [own, packaged]


def _packaged(name: str) -> Path:
    installed = _PACKAGE / "_data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name
