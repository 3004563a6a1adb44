"""The machine's ceilings in the form of a peer, with those that only the compiler can make: peaks of arithmetic."""

from __future__ import annotations

from collections.abc import Mapping

from tvm_conv3dt.cli.installed import has_compiler
from tvm_conv3dt.errors import Conv3dtError
from tvm_conv3dt.measure.load import BFLOAT16, FMA, Load
from tvm_conv3dt.measure.peers import machine
from tvm_conv3dt.measure.peers.problem import Started
from tvm_conv3dt.measure.timing import Timing, turn

__all__ = ["matrix_peak", "matrix_peak_gflops", "peak", "peak_gflops", "start"]

# Seconds to measure the peak by itself.
_SECONDS = 0.5


def start(threads: int) -> Started:
    """Compile the peaks' kernels, where the compiler is, and allocate what all others need."""
    return machine.started(threads, {**peak(threads), **matrix_peak(threads)})


def peak(threads: int) -> dict[str, Load]:
    """Return the peak of multiply-adds, to time in this thread; nothing where it cannot be made here."""
    if not has_compiler():
        return {}
    from tvm_conv3dt.compiler import peak as kernel
    from tvm_conv3dt.compiler.target import resolve

    try:
        return {FMA: kernel.load(resolve("host"), threads)}
    except Conv3dtError:
        # The matrix product is the limit then, and the report says that it is.
        return {}


def matrix_peak(threads: int) -> dict[str, Load]:
    """Return the peak of the CPU's matrix unit, to time in this thread; nothing where there is none, or no compiler."""
    if not has_compiler():
        return {}
    from tvm_conv3dt.compiler import matrix_peak as kernel
    from tvm_conv3dt.compiler.target import resolve

    try:
        return {BFLOAT16: kernel.load(resolve("host"), threads)}
    except Conv3dtError:
        # bfloat16 has float32's limit then, and the report says so.
        return {}


def peak_gflops(threads: int) -> float | None:
    """Measure the peak of multiply-adds in this thread, in 1e9 operations per second; None where it cannot be made."""
    return _gflops(peak(threads))


def matrix_peak_gflops(threads: int) -> float | None:
    """Measure the peak of the CPU's matrix unit in this thread, in 1e9 operations per second; None where there is none."""
    return _gflops(matrix_peak(threads))


def _gflops(found: Mapping[str, Load]) -> float | None:
    rates = [
        operations / Timing.of(turn(run, _SECONDS)).median / 1e9
        for run, operations in found.values()
    ]
    return rates[0] if rates else None
