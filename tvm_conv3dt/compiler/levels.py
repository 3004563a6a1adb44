"""Which devices can be the levels of one bundle, and in which order loading tries them."""

from __future__ import annotations

from collections.abc import Iterable

from tvm_conv3dt.compiler.target import host_of
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import DeviceError, describe

__all__ = ["levels_of"]


def levels_of(devices: Iterable[Device]) -> tuple[Device, ...]:
    """Return the levels of a bundle for these devices, the most demanding first.

    Wider vectors demand more, then more CPU features; later GPUs demand more. What is equal stays in the order given. A device that
    is given twice counts once.

    Raises
    ------
    DeviceError
        If there is none, if they differ in kind, operating system or architecture (for GPUs that of the CPU beside
        them), or if two of them have one name or need the same of a machine, so that loading could not tell
        them apart.
    """
    levels = list(dict.fromkeys(devices))
    if not levels:
        raise _refused("no device", "it needs one level at least", "name a device")
    first = levels[0]
    for other in levels[1:]:
        if _platform(other) != _platform(first):
            raise _refused(
                f"devices {first.name} ({_platform(first)}) and {other.name} ({_platform(other)})",
                "its levels must be of one operating system, architecture and kind",
                "build a bundle for each",
            )
    for index, level in enumerate(levels):
        for earlier in levels[:index]:
            if level.name == earlier.name:
                rule = "they differ, and a level is known by its device's name"
                raise _refused(f"two devices {level.name}", rule, "rename one of them")
            if _needs(level) == _needs(earlier):
                needed = ", ".join(sorted(_needs(level))) or "no CPU feature"
                raise _refused(
                    f"devices {earlier.name} and {level.name}",
                    f"both need {needed}, and nothing else tells loading which to take",
                    "name one of them, or build a bundle for each",
                )
    return tuple(sorted(levels, key=_demand, reverse=True))


def _platform(device: Device) -> str:
    # Each GPU may be a level, whatever its architecture: the bundle's is that of the CPU beside it.
    return f"{device.os} {host_of(device).arch} {device.kind}"


def _needs(device: Device) -> set[str]:
    """Return what loading asks a machine for: CPU features, and of a GPU its architecture."""
    return {*host_of(device).cpu_features, *([device.arch] if device.kind == "cuda" else [])}


def _demand(device: Device) -> tuple[int, int]:
    first = int(device.arch.removeprefix("sm_")) if device.kind == "cuda" else device.vector_bits
    return first, len(host_of(device).cpu_features)


def _refused(value: str, rule: str, mend: str) -> DeviceError:
    return DeviceError(describe("build", "bundle", value, rule, mend))
