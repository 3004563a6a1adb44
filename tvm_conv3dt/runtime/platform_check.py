"""Whether this machine can run a bundle, and which level of it, found out before any of its code is loaded.

A CPU without a feature that the code uses would end the process with an illegal instruction.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence

import tvm_ffi

from tvm_conv3dt import device
from tvm_conv3dt.errors import (
    DeviceError,
    LibraryError,
    PlatformError,
    UnsupportedError,
    describe,
    show,
)
from tvm_conv3dt.level import Level
from tvm_conv3dt.manifest import Manifest

__all__ = ["check_machine", "check_versions", "choose_level", "fitting_level"]


def check_machine(manifest: Manifest) -> None:
    """Check kind of code, operating system and architecture, which all levels of a bundle share.

    Parameters
    ----------
    manifest : Manifest
        Of the bundle that is to run.

    Raises
    ------
    UnsupportedError
        If it was built for a kind of device that this version does not run.
    PlatformError
        If it was built for another operating system or architecture.
    """
    needed = manifest.platform
    if needed.kind != "llvm":
        raise UnsupportedError(
            describe(
                "load",
                "bundle",
                f"device kind {needed.kind!r}",
                "this version runs bundles of kind 'llvm', and others not yet",
            )
        )
    system, arch = _platform()
    if (system, arch) != (needed.os, needed.arch):
        raise PlatformError(
            describe(
                "load",
                "bundle",
                _named(manifest.levels),
                f"it was built for {needed.os} on {needed.arch}, and this is {system} on {arch}",
                _REBUILD,
            )
        )


def choose_level(manifest: Manifest, name: str | None = None) -> Level:
    """Choose the level of a bundle that this machine is to run.

    Parameters
    ----------
    manifest : Manifest
        Of a bundle that `check_machine` let pass.
    name : str, optional
        The level to take; without it the most demanding one whose CPU features are all there.

    Returns
    -------
    Level
        One of the manifest's.

    Raises
    ------
    DeviceError
        If the bundle has no level of that name.
    PlatformError
        If the CPU lacks features of that level, or, without a name, of every level.
    """
    candidates = manifest.levels
    if name is not None:
        candidates = tuple(level for level in candidates if level.device == name)
        if not candidates:
            held = ", ".join(level.device for level in manifest.levels)
            raise DeviceError(describe("load", "bundle", f"level {show(name)}", f"it has {held}"))
    features = device.cpu_features()
    for level in candidates:
        if not level.missing(features):
            return level
    uses = ", and ".join(
        f"its code for {level.device} uses {', '.join(level.missing(features))}"
        for level in candidates
    )
    others = name is not None and fitting_level(manifest) is not None
    raise PlatformError(
        describe(
            "load",
            "bundle",
            _named(candidates),
            f"{uses}, which this CPU does not have",
            "name no level, and one that fits is taken" if others else _REBUILD,
        )
    )


def fitting_level(manifest: Manifest) -> Level | None:
    """Return the level that `choose_level` takes on this machine, or None where the bundle does not run."""
    needed = manifest.platform
    if (needed.kind, needed.os, needed.arch) != ("llvm", *_platform()):
        return None
    features = device.cpu_features()
    return next((level for level in manifest.levels if not level.missing(features)), None)


def check_versions(manifest: Manifest) -> None:
    """Check that the installed tvm-ffi fits the one that built the bundle.

    Parameters
    ----------
    manifest : Manifest
        Of the bundle that is to run.

    Raises
    ------
    LibraryError
        If tvm-ffi is older, or of another 0.x series. Its interface to libtvm_runtime is C++, so a
        misfit would show as a crash, not as an error.
    """
    installed, built = _release(tvm_ffi.__version__), _release(manifest.tvm_ffi)
    if len(built) < 2 or installed[:2] != built[:2] or installed < built:
        series = ".".join(map(str, built[:2]))
        raise LibraryError(
            describe(
                "load",
                "bundle",
                f"tvm-ffi {manifest.tvm_ffi}",
                f"tvm-ffi {tvm_ffi.__version__} is installed, and it must be {series}.x and not older",
                f"install it with: pip install apache-tvm-ffi=={manifest.tvm_ffi}",
            )
        )


_REBUILD = (
    "build it for this machine with: tvm-conv3dt build --device NAME (see tvm-conv3dt device)"
)


def _platform() -> tuple[str, str]:
    return platform.system().lower(), device.architecture()


def _named(levels: Sequence[Level]) -> str:
    names = ", ".join(repr(level.device) for level in levels)
    return f"level {names}" if len(levels) == 1 else f"levels {names}"


def _release(version: str) -> tuple[int, ...]:
    # 0.1.14.post1 -> (0, 1, 14): post releases change packaging, not the interface.
    match = re.match(r"\d{1,9}(\.\d{1,9})*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()
