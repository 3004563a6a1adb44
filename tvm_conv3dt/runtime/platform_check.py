"""Whether this machine can run a bundle, and which level of it, found out before any of its code is loaded.

A CPU without a feature that the code uses would end the process with an illegal instruction. GPUs and their
driver are asked through the driver's own library, which is not the bundle's.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass

import tvm_ffi

from tvm_conv3dt import cpu, cuda_driver, tile_state
from tvm_conv3dt.cuda_driver import CudaDriver
from tvm_conv3dt.errors import DeviceError, LibraryError, PlatformError, describe, show
from tvm_conv3dt.level import Level
from tvm_conv3dt.manifest import CudaRuntime, Manifest

__all__ = ["check_machine", "check_versions", "choose_level", "fitting_level", "missing"]


def check_machine(manifest: Manifest) -> None:
    """Check operating system and architecture, which all levels of a bundle share.

    Parameters
    ----------
    manifest : Manifest
        Of the bundle that is to run.

    Raises
    ------
    PlatformError
        If it was built for another operating system or architecture.
    """
    needed = manifest.platform
    system, arch = platform.system().lower(), cpu.architecture()
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
        The level to take; without it the most demanding one that needs nothing that this machine lacks: CPU
        features and, for GPUs, the compute capability of the first GPU in CUDA's order. Where a level's code uses
        the registers of a matrix unit, the kernel is asked for them, and may refuse.

    Returns
    -------
    Level
        One of the manifest's.

    Raises
    ------
    DeviceError
        If the bundle has no level of that name.
    PlatformError
        If the CPU, GPU or driver lacks something for that level, or, without a name, for every level; or if
        the bundle is for GPUs and there is none, or no driver, or one of an earlier CUDA.
    """
    candidates = manifest.levels
    if name is not None:
        candidates = tuple(level for level in candidates if level.device == name)
        if not candidates:
            held = ", ".join(level.device for level in manifest.levels)
            raise DeviceError(describe("load", "bundle", f"level {show(name)}", f"it has {held}"))
    machine = _machine(manifest)
    for level in candidates:
        if not machine.lacks(level):
            return level
    uses = ", and ".join(
        f"its code for {level.device} uses {', '.join(machine.lacks(level))}"
        for level in candidates
    )
    others = any(not machine.lacks(level) for level in manifest.levels)
    raise PlatformError(
        describe(
            "load",
            "bundle",
            _named(candidates),
            f"{uses}, which {machine} does not have",
            "name no level, and one that fits is taken" if others else _REBUILD,
        )
    )


def fitting_level(manifest: Manifest) -> Level | None:
    """Return the level that `choose_level` takes on this machine, or None where the bundle does not run."""
    try:
        lacking = missing(manifest)
    except PlatformError:
        return None
    return next((level for level, lacks in zip(manifest.levels, lacking) if not lacks), None)


def missing(manifest: Manifest) -> tuple[tuple[str, ...], ...]:
    """Return what this machine lacks for each level of a bundle, in words; nothing where it runs it.

    Raises
    ------
    PlatformError
        If it runs none, whatever their code uses: as `check_machine`, and as `choose_level` without a GPU.
    """
    check_machine(manifest)
    machine = _machine(manifest)
    return tuple(machine.lacks(level) for level in manifest.levels)


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


@dataclass(frozen=True)
class _Machine:
    """What decides on the level; a driver only where the bundle is for GPUs."""

    features: frozenset[str]
    driver: CudaDriver | None = None
    toolkit: tuple[int, ...] = ()

    def lacks(self, level: Level) -> tuple[str, ...]:
        lacking = list(level.missing(self.features))
        if tile_state.FEATURE in level.cpu_features and not lacking and tile_state.refusal():
            lacking.append(f"{tile_state.FEATURE} ({tile_state.refusal()})")
        needed = level.capability
        if self.driver is not None and needed is not None:
            has = self.driver.gpus[0].capability
            if has < needed:
                lacking.append(f"compute capability {_dotted(needed)}")
            elif has[0] != needed[0] and self.driver.cuda < self.toolkit:
                # Machine code is for one major number. Beyond it the driver compiles PTX, and knows that of no
                # later toolkit than its own.
                lacking.append(f"a driver of CUDA {_dotted(self.toolkit)}")
        return tuple(lacking)

    def __str__(self) -> str:
        if self.driver is None:
            # What the kernel refuses, the CPU may have.
            return "this machine" if tile_state.FEATURE in self.features else "this CPU"
        gpu = self.driver.gpus[0]
        has = f"compute capability {_dotted(gpu.capability)}"
        return f"this machine ({gpu.name}, {has}, driver of CUDA {_dotted(self.driver.cuda)})"


def _machine(manifest: Manifest) -> _Machine:
    features = cpu.features()
    if manifest.cuda is None:
        return _Machine(features)
    driver = cuda_driver.find()
    _check_driver(driver, manifest.cuda)
    return _Machine(features, driver, _release(manifest.cuda.toolkit))


def _check_driver(driver: CudaDriver, cuda: CudaRuntime) -> None:
    major = int(cuda.cudart.rpartition(".")[2])
    if driver.cuda < (major, 0):
        raise PlatformError(
            describe(
                "load",
                "bundle",
                cuda.cudart,
                f"NVIDIA's driver on this machine runs CUDA up to {_dotted(driver.cuda)}, and it must be "
                f"{major}.0 or later",
                "install a newer driver",
            )
        )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _named(levels: Sequence[Level]) -> str:
    names = ", ".join(repr(level.device) for level in levels)
    return f"level {names}" if len(levels) == 1 else f"levels {names}"


def _release(version: str) -> tuple[int, ...]:
    # 0.1.14.post1 -> (0, 1, 14): post releases change packaging, not the interface.
    match = re.match(r"\d{1,9}(\.\d{1,9})*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()
