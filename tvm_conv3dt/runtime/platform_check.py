"""Whether this machine can run a bundle, found out before any of the bundle's code is loaded.

A CPU without a feature that the code uses would end the process with an illegal instruction.
"""

from __future__ import annotations

import platform
import re

import tvm_ffi

from tvm_conv3dt import device
from tvm_conv3dt.errors import LibraryError, PlatformError, UnsupportedError, describe
from tvm_conv3dt.manifest import Manifest

__all__ = ["check_machine", "check_versions"]


def check_machine(manifest: Manifest) -> None:
    """Check operating system, architecture and CPU features.

    Parameters
    ----------
    manifest : Manifest
        Of the bundle that is to run.

    Raises
    ------
    UnsupportedError
        If it was built for a kind of device that this version does not run.
    PlatformError
        If the machine lacks something that the bundle needs.
    """
    built_for = manifest.device
    if built_for.kind != "llvm":
        raise UnsupportedError(
            describe(
                "load",
                "bundle",
                f"device kind {built_for.kind!r}",
                "this version runs bundles of kind 'llvm', and others not yet",
            )
        )
    requires = manifest.requires
    system, arch = platform.system().lower(), device.architecture()
    if (system, arch) != (requires.os, requires.arch):
        raise PlatformError(
            describe(
                "load",
                "bundle",
                f"device {built_for.name!r}",
                f"it was built for {requires.os} on {requires.arch}, and this is {system} on {arch}",
                _REBUILD,
            )
        )
    missing = sorted(set(requires.cpu_features) - device.cpu_features())
    if missing:
        raise PlatformError(
            describe(
                "load",
                "bundle",
                f"device {built_for.name!r}",
                f"its code uses {', '.join(missing)}, which this CPU does not have",
                _REBUILD,
            )
        )


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


def _release(version: str) -> tuple[int, ...]:
    # 0.1.14.post1 -> (0, 1, 14): post releases change packaging, not the interface.
    match = re.match(r"\d{1,9}(\.\d{1,9})*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()
