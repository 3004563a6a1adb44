"""What a core does in a cycle, for estimates of points on CPUs."""

from __future__ import annotations

from tvm_conv3dt.device import Device

__all__ = ["FMA_LATENCY", "LOADS_PER_CYCLE", "adds_apart", "multiply_adds", "third_cache_rate"]

FMA_LATENCY = 4
LOADS_PER_CYCLE = 1.6
"""Of two; the rest is lost to misses."""

_FMA_PER_CYCLE = 2
_AMD_BITS = 512
_L3_BYTES_PER_CYCLE = 9
_AMD_L3_BYTES_PER_CYCLE = 24  # measured on Zen 4: 27 of 8 MB, where the second cache gives 32


def multiply_adds(device: Device, bits: int) -> float:
    """Return how many multiply-adds of vectors of so many bits a core starts in each cycle.

    Zen 4's start one of 512 bits, or two of 256 (AMD, *Software Optimization Guide for the AMD Zen 4 Microarchitecture*,
    section 2.11).
    """
    return min(_FMA_PER_CYCLE, _AMD_BITS / bits) if adds_apart(device) else _FMA_PER_CYCLE


def third_cache_rate(device: Device) -> float:
    """Return the bytes that a core has from the third cache in a cycle: AMD's have nearly as many as from the second."""
    return _AMD_L3_BYTES_PER_CYCLE if adds_apart(device) else _L3_BYTES_PER_CYCLE


def adds_apart(device: Device) -> bool:
    """Return whether additions have units of their own, as in AMD's cores.

    Of those with AVX-512 that is guessed: Zen 4's have AVX512-BF16 and no matrix unit. So have Zen 5's, which start twice as many, and
    Intel's Cooper Lake, which has no such units; they are counted as Zen 4.
    """
    features = device.cpu_features
    return "avx512_bf16" in features and "amx_bf16" not in features
