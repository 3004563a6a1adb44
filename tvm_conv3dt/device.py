"""Devices: the catalogue of those that can be named, and which of them this machine is."""

from __future__ import annotations

import platform
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from tvm_conv3dt import cpu, threads, tile_state
from tvm_conv3dt.errors import DeviceError, FileFormatError, PlatformError, describe, show
from tvm_conv3dt.files import read_toml
from tvm_conv3dt.gpu import Gpu

__all__ = ["HOST", "Device", "get", "host", "names"]

HOST = "host"
"""The name that stands for this machine."""

_CATALOGUE = Path(__file__).with_name("devices.toml")

# What an unknown CPU of an architecture can be built for, most demanding first.
_LEVELS = {
    "x86_64": ("x86-64-v4-amx", "x86-64-v4-bf16", "x86-64-v4", "x86-64-v3", "x86-64-v2"),
    "aarch64": ("aarch64",),
}

# Vectors that multiply pairs of bfloat16; of no use where there is a matrix unit, see `host`.
_PAIRS = "avx512_bf16"


@dataclass(frozen=True)
class Device:
    """A piece of hardware to build for.

    Parameters
    ----------
    name : str
        Its name in the catalogue, in file names and in manifests.
    kind : str
        The code generator: ``"llvm"`` or ``"cuda"``.
    os : str
        ``"linux"``.
    arch : str
        ``"x86_64"``, ``"aarch64"`` or ``"armv7"``; for cuda ``"sm_80"`` and the like.
    mcpu : str
        LLVM's name of the CPU, which decides on the instructions that a library may hold.
    mattr : tuple of str
        LLVM's features beside `mcpu`'s.
    cpu_features : tuple of str
        What `cpu_features` must find before a library of this device may be loaded.
    vector_bits, vector_registers : int
        Width and number of the vector registers to use.
    cores : int
        Cores to divide work among.
    l1_bytes, l2_bytes : int
        Data caches, in bytes for each core.
    l3_bytes : int
        Last cache, in bytes for all cores; 0 without one.
    fallback : tuple of str
        Devices whose schedules may be used where this one has none, nearest first.
    gpu : Gpu or None
        What a device of kind cuda allows.
    host : str
        For a device of kind cuda the one that it is always beside, such as ``"jetson-orin"``; empty where that
        is any CPU of the machine that builds.
    """

    name: str
    kind: str
    os: str
    arch: str
    mcpu: str
    mattr: tuple[str, ...]
    cpu_features: tuple[str, ...]
    vector_bits: int
    vector_registers: int
    cores: int
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    fallback: tuple[str, ...]
    gpu: Gpu | None = None
    host: str = ""

    @property
    def triple(self) -> str:
        """GNU's name of the platform, for a device that is a CPU: ``"aarch64-linux-gnu"``."""
        return f"{self.arch}-{self.os}-gnu{'eabihf' if self.arch == 'armv7' else ''}"

    def lanes(self, itemsize: int) -> int:
        """Return how many elements of so many bytes a vector has."""
        return self.vector_bits // (8 * itemsize)


def names() -> tuple[str, ...]:
    """Return the names in the catalogue, ``"host"`` first."""
    return (HOST, *_catalogue())


def get(name: str) -> Device:
    """Return the device of a name.

    Parameters
    ----------
    name : str
        One of `names`; ``"host"`` gives what `host` finds without a microarchitecture.

    Returns
    -------
    Device
        The entry, with what it inherits.

    Raises
    ------
    DeviceError
        If there is no such entry.
    PlatformError
        If the name is ``"host"`` and nothing can be built for this machine.
    """
    if name == HOST:
        return host()
    device = _catalogue().get(name) if isinstance(name, str) else None
    if device is None:
        raise DeviceError(
            describe("find", "device", show(name), f"the catalogue has {', '.join(names())}")
        )
    return device


def host(microarchitecture: str | None = None) -> Device:
    """Return what this machine is.

    Its `mcpu` is the catalogue's, never the microarchitecture's own: a virtual machine may hide
    features that the microarchitecture has, and only the catalogue's were looked for. Where the CPU has a matrix
    unit the kernel is asked for its registers, see `tile_state`: what it refuses is no part of the host. Its vectors
    multiply pairs of bfloat16 at half the speed of float32, so without its unit it counts as a CPU that has neither.

    Parameters
    ----------
    microarchitecture : str, optional
        LLVM's name of this CPU, which becomes the device's name; without it the name is that of the
        most demanding entry that fits.

    Returns
    -------
    Device
        With the threads and caches that this process has.

    Raises
    ------
    PlatformError
        If nothing can be built for this machine.
    """
    system, arch, have = platform.system().lower(), cpu.architecture(), cpu.features()

    def fits(device: Device) -> bool:
        if (device.os, device.arch) != (system, arch) or not have.issuperset(device.cpu_features):
            return False
        if tile_state.FEATURE in device.cpu_features:
            return not tile_state.refusal()
        return not (_PAIRS in device.cpu_features and tile_state.FEATURE in have)

    entries = _catalogue()
    # An entry for this very CPU says more than a level does.
    base = next((entry for entry in entries.values() if entry.mcpu == microarchitecture), None)
    if base is None or not fits(base):
        levels = (entries[name] for name in _LEVELS.get(arch, ()))
        base = next((level for level in levels if fits(level)), None)
    if base is None:
        raise PlatformError(
            describe(
                "find",
                "device",
                f"os {system}, architecture {arch}, CPU features {', '.join(sorted(have)) or 'none'}",
                "libraries are made for linux on x86_64 from x86-64-v2 on and on aarch64",
            )
        )
    known = microarchitecture not in (None, "generic", *entries)
    l1, l2, l3 = cpu.caches()
    return replace(
        base,
        name=microarchitecture if known and microarchitecture else base.name,
        cores=threads.available(),
        l1_bytes=l1 or base.l1_bytes,
        l2_bytes=l2 or base.l2_bytes,
        l3_bytes=l3 or base.l3_bytes,
        fallback=(base.name, *base.fallback) if known else base.fallback,
    )


@cache
def _catalogue() -> dict[str, Device]:
    return _parse(_CATALOGUE)


def _parse(path: Path) -> dict[str, Device]:
    table = read_toml(path, schema=1)
    entries: dict[str, Any] = table.get("device", {})
    devices: dict[str, Device] = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise _bad_entry(path, name, "it must be a table")
        parent = entry.get("inherits")
        if parent is not None and parent not in devices:
            raise _bad_entry(path, name, f"it inherits {show(parent)}, which must come before it")
        inherited = devices[parent] if parent is not None else None
        values: dict[str, Any] = {"name": name}
        for field in fields(Device)[1:]:
            if field.name == "gpu":
                values["gpu"] = _gpu(path, name, entry, inherited)
            elif field.name in entry:
                values[field.name] = _value(path, name, field.name, str(field.type), entry)
            elif inherited is not None:
                values[field.name] = getattr(inherited, field.name)
            elif field.default is not MISSING:
                values[field.name] = field.default
            else:
                raise _bad_entry(path, name, f"its field {field.name} is missing")
        unknown = sorted(set(entry) - set(values) - {"inherits"})
        if (values["kind"] == "cuda") != (values["gpu"] is not None):
            raise _bad_entry(path, name, "devices of kind cuda have a table gpu, and no others")
        if values["host"] and (
            values["kind"] != "cuda" or not _is_cpu(devices.get(values["host"]))
        ):
            rule = f"its host {values['host']} must be a CPU that comes before it, and only GPUs have one"
            raise _bad_entry(path, name, rule)
        if unknown:
            raise _bad_entry(path, name, f"it has unknown fields: {', '.join(unknown)}")
        devices[name] = Device(**values)
    for device in devices.values():
        for name in device.fallback:
            if name not in devices:
                raise _bad_entry(path, device.name, f"its fallback {name} is no device")
    return devices


def _is_cpu(device: Device | None) -> bool:
    return device is not None and device.kind != "cuda"


def _gpu(path: Path, name: str, entry: dict[str, Any], inherited: Device | None) -> Gpu | None:
    """Return the limits of a GPU: an entry's own, and the rest of those that it inherits."""
    own = entry.get("gpu", {})
    known = [field.name for field in fields(Gpu)]
    if not isinstance(own, dict) or not set(own) <= set(known):
        raise _bad_entry(path, name, f"its field gpu is {show(own)} and must be a table of {known}")
    parent = inherited.gpu if inherited is not None else None
    if not own:
        return parent
    values = {each: _value(path, name, each, "int", own) for each in own}
    missing = set(known) - set(values)
    if parent is not None:
        return replace(parent, **values)
    if missing:
        raise _bad_entry(path, name, f"its gpu lacks {', '.join(sorted(missing))}")
    return Gpu(**values)


def _value(path: Path, name: str, field: str, kind: str, entry: dict[str, Any]) -> Any:
    value = entry[field]
    if kind == "tuple[str, ...]":
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return tuple(value)
    elif type(value).__name__ == kind:
        return value
    raise _bad_entry(path, name, f"its field {field} is {show(value)} and must be {kind}")


def _bad_entry(path: Path, name: str, rule: str) -> FileFormatError:
    return FileFormatError(describe("read", "device catalogue", f"{path.name}, {name}", rule))
