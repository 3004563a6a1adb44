"""What this machine's CPU is: architecture, features, caches."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import numpy as np

__all__ = ["architecture", "caches", "features"]

# The other names of what this package calls x86_64, aarch64 and armv7: the last also of a 64-bit core's 32-bit state.
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64", "armv7l": "armv7", "armv8l": "armv7"}

_AVX512 = ("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl")
_V2 = ("sse3", "ssse3", "sse4_1", "sse4_2", "popcnt")
_V3 = (*_V2, "avx", "avx2", "f16c", "fma")
_NUMPY_FEATURES = {
    "SSE3": ("sse3",),
    "SSSE3": ("ssse3",),
    "SSE41": ("sse4_1",),
    "SSE42": ("sse4_2",),
    "POPCNT": ("popcnt",),
    "AVX": ("avx",),
    "AVX2": ("avx2",),
    "F16C": ("f16c",),
    "FMA3": ("fma",),
    "AVX512F": ("avx512f",),
    "AVX512CD": ("avx512cd",),
    "AVX512_SKX": _AVX512,
    # NumPy from 2.4 on speaks of levels.
    "X86_V2": _V2,
    "X86_V3": _V3,
    "X86_V4": (*_V3, *_AVX512),
    "ASIMD": ("asimd",),
    "ASIMDHP": ("asimdhp",),
}
# What NumPy does not know of, by the kernel's own word: it lists what programs may use.
_CPUINFO = Path("/proc/cpuinfo")
_LISTED = {"x86_64": {"amx_bf16", "amx_tile", "avx512_bf16", "avx512_fp16"}}
# Bits of AT_HWCAP and, from 32 on, of AT_HWCAP2: NumPy reports only what it was built with kernels for.
_AT_HWCAP, _AT_HWCAP2 = 16, 26
_HWCAP_BITS = {
    "aarch64": {"asimd": 1, "asimdhp": 10, "asimddp": 20, "sve": 22, "sve2": 33, "bf16": 46},
    "armv7": {"neon": 12, "vfpv4": 16},
}


def architecture() -> str:
    """Return this machine's architecture under one name per architecture: ``"x86_64"``, ``"aarch64"``, …."""
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)


def features() -> frozenset[str]:
    """Return those CPU features of this machine that the catalogue may ask for.

    Returns
    -------
    frozenset of str
        Lower-case names as the Linux kernel writes them: ``"avx2"``, ``"fma"``, ``"asimd"``.
    """
    # A NumPy that was built without them has none.
    simd = np.show_config(mode="dicts").get("SIMD Extensions", {})
    seen = {
        feature
        for name in (*simd.get("baseline", ()), *simd.get("found", ()))
        for feature in _NUMPY_FEATURES.get(name, ())
    }
    if platform.system() != "Linux":
        return frozenset(seen)
    if listed := _LISTED.get(architecture()):
        seen |= listed & _listed()
    if named_bits := _HWCAP_BITS.get(architecture()):
        bits = _hwcap()
        seen.update(name for name, bit in named_bits.items() if bits >> bit & 1)
    return frozenset(seen)


def caches(root: Path = Path("/")) -> tuple[int, int, int]:
    """Return the bytes of the caches of levels 1 to 3, as the kernel below `root` lists them for the first core; 0 where it does not."""
    found = {1: 0, 2: 0, 3: 0}
    for folder in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level, kind, size = (
                (folder / name).read_text(encoding="ascii").strip()
                for name in ("level", "type", "size")
            )
            if kind != "Instruction":
                found[int(level)] = int(size.removesuffix("K")) * 1024
        except (OSError, ValueError):
            continue
    return found[1], found[2], found[3]


def _listed() -> set[str]:
    """Return the features of the first core that the kernel lists; none where it lists none."""
    try:
        lines = _CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    return set(
        next((line.split(":", 1)[1] for line in lines if line.startswith("flags")), "").split()
    )


def _hwcap() -> int:
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.restype = ctypes.c_ulong
    getauxval.argtypes = [ctypes.c_ulong]
    return int(getauxval(_AT_HWCAP)) | int(getauxval(_AT_HWCAP2)) << 32
