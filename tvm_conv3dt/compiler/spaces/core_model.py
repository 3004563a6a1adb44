"""What a core does in a cycle, for estimates of points on CPUs."""

from __future__ import annotations

from tvm_conv3dt.device import Device

__all__ = ["FMA_LATENCY", "LOADS_PER_CYCLE", "adds_apart", "multiply_adds"]

FMA_LATENCY = 4
LOADS_PER_CYCLE = 1.6
"""Of two; the rest is lost to misses."""

_FMA_PER_CYCLE = 2
_AMD_BITS = 512


def multiply_adds(device: Device, bits: int) -> float:
    """Return how many multiply-adds of vectors of so many bits a core starts in each cycle.

    Zen 4's start one of 512 bits, or two of 256 (AMD, *Software Optimization Guide for the AMD Zen 4 Microarchitecture*,
    section 2.11).
    """
    return min(_FMA_PER_CYCLE, _AMD_BITS / bits) if adds_apart(device) else _FMA_PER_CYCLE


def adds_apart(device: Device) -> bool:
    """Return whether additions have units of their own, as in AMD's cores.

    Of those with AVX-512 that is guessed: Zen 4's have AVX512-BF16 and no matrix unit. So have Zen 5's, which start twice as many, and
    Intel's Cooper Lake, which has no such units; they are counted as Zen 4.
    """
    features = device.cpu_features
    return "avx512_bf16" in features and "amx_bf16" not in features
