"""What this machine can reach at all: a matrix product, copies and writes, measured with NumPy.

A kernel's speed is told as a share of these, so that figures of different machines compare.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np

from tvm_conv3dt import device
from tvm_conv3dt import threads as core_threads
from tvm_conv3dt.errors import PlatformError
from tvm_conv3dt.measure.timing import Timing, interleave
from tvm_conv3dt.spec import Workload

__all__ = ["Ceilings", "Load", "cache_bytes", "copy", "loads", "measure", "sgemm", "write"]

_PRODUCT = 2048
_VOLUME = 96 << 20
# A copy inside the caches is over before threads have woken up, so each thread repeats its part.
_CACHED_PASSES = 16

Load = tuple[Callable[[], object], int]
"""Something to time, and the operations or bytes of one call."""


@dataclass(frozen=True)
class Ceilings:
    """The machine's limits.

    Attributes
    ----------
    gflops : float
        Of a large single-precision matrix product, in 1e9 operations per second.
    copy_gbs : float
        Of a copy too large for the caches, in 1e9 bytes per second, reading and writing both counted.
    write_gbs : float
        Of filling memory too large for the caches, in 1e9 bytes per second.
    cached_gbs : float
        As `copy_gbs`, of two arrays that together are half as large as the last-level cache.
    cache_bytes : int
        The last-level cache; 0 where it is not known, and nothing then counts as fitting.
    threads : int
        How many threads copied and wrote. NumPy's BLAS decides itself how many multiply: all cores, or
        what its environment variables say.
    """

    gflops: float
    copy_gbs: float
    write_gbs: float
    cached_gbs: float
    cache_bytes: int
    threads: int

    @classmethod
    def of(cls, timings: Mapping[str, Timing], work: Mapping[str, int], threads: int) -> Ceilings:
        """Return the limits that the medians of `loads` give."""
        rates = {name: work[name] / timings[name].median / 1e9 for name in timings}
        return cls(
            rates["product"],
            rates["copy"],
            rates["write"],
            rates["cached copy"],
            cache_bytes(),
            threads,
        )

    def seconds(self, workload: Workload) -> float:
        """Return the shortest time that the limits allow: the roofline.

        ``max(flops / gflops, memory)``, with `memory_seconds` for the latter.
        """
        return max(self.compute_seconds(workload), self.memory_seconds(workload))

    def compute_seconds(self, workload: Workload) -> float:
        """Return the time of the arithmetic alone: ``flops / gflops``."""
        return workload.flops / (self.gflops * 1e9)

    def memory_seconds(self, workload: Workload) -> float:
        """Return the time of moving every operand once.

        Where `fits` holds, ``bytes / cached_gbs``; elsewhere
        ``max(bytes / copy_gbs, output bytes / write_gbs)``, since writing alone may be slower than a
        copy, half of which is reading.
        """
        if self.fits(workload):
            return workload.bytes / (self.cached_gbs * 1e9)
        written = int(np.prod(workload.output_shape, dtype=object)) * workload.itemsize
        return max(workload.bytes / (self.copy_gbs * 1e9), written / (self.write_gbs * 1e9))

    def fits(self, workload: Workload) -> bool:
        """Return whether input, filters and output together fit the last-level cache."""
        return workload.bytes <= self.cache_bytes

    def limit(self, workload: Workload) -> str:
        """Return what limits the workload: ``"compute"``, ``"memory"`` or ``"cache"``."""
        if self.compute_seconds(workload) >= self.memory_seconds(workload):
            return "compute"
        return "cache" if self.fits(workload) else "memory"


def measure(threads: int | None = None, seconds: float = 1.0) -> Ceilings:
    """Measure the limits in this process.

    Parameters
    ----------
    threads : int or None
        How many threads copy; None means what the process may use.
    seconds : float
        About how long to measure.

    Returns
    -------
    Ceilings
        From the medians.
    """
    count = threads or core_threads.available()
    with ThreadPoolExecutor(count) as pool:
        found = loads(pool, count)
        runs = {name: run for name, (run, _) in found.items()}
        timings = interleave(runs, seconds, min_rounds=3)
    return Ceilings.of(timings, {name: work for name, (_, work) in found.items()}, count)


def loads(pool: Executor, threads: int) -> dict[str, Load]:
    """Return all that is to be timed, by the names that `Ceilings.of` knows."""
    cached = max(cache_bytes() // 4, 1 << 16)
    return {
        "product": sgemm(),
        "copy": copy(pool, threads),
        "write": write(pool, threads),
        "cached copy": copy(pool, threads, cached, _CACHED_PASSES),
    }


def cache_bytes() -> int:
    """Return the size of the last-level cache that this process may use; 0 where it is not known."""
    try:
        found = device.host()
    except PlatformError:
        return 0
    return found.l3_bytes or found.l2_bytes * found.cores


def sgemm(size: int = _PRODUCT) -> Load:
    """Return a single-precision matrix product to time beside kernels.

    Parameters
    ----------
    size : int
        Rows and columns of the three matrices.

    Returns
    -------
    tuple of (callable, int)
        The product, written to memory that is reused; and its operations.
    """
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    c = np.zeros((size, size), np.float32)
    return (lambda: np.matmul(a, b, out=c)), 2 * size**3


def copy(pool: Executor, parts: int, size: int = _VOLUME, passes: int = 1) -> Load:
    """Return a copy from memory to memory to time beside kernels.

    Parameters
    ----------
    pool : Executor
        Copies the parts; NumPy lets them run at once.
    parts : int
        Into how many pieces the copy is cut.
    size : int
        Bytes of the source.
    passes : int
        How often each piece is copied in one call.

    Returns
    -------
    tuple of (callable, int)
        The copy, to memory that is reused; and the bytes that it reads and writes.
    """
    source = np.ones(size // 8, np.float64)
    target = np.zeros_like(source)
    pieces = list(zip(np.array_split(target, parts), np.array_split(source, parts), strict=True))

    def part(to: object, by: object) -> None:
        for _ in range(passes):
            np.copyto(to, by)  # type: ignore[arg-type]

    def run() -> None:
        wait([pool.submit(part, *piece) for piece in pieces])

    return run, 2 * source.nbytes * passes


def write(pool: Executor, parts: int, size: int = _VOLUME) -> Load:
    """Return the filling of memory to time beside kernels.

    Parameters
    ----------
    pool : Executor
        Fills the parts; ctypes lets them run at once.
    parts : int
        Into how many pieces the memory is cut.
    size : int
        Its bytes.

    Returns
    -------
    tuple of (callable, int)
        The filling, of memory that is reused; and its bytes.
    """
    target = np.ones(size // 8, np.float64)
    pieces = np.array_split(target, parts)

    def run() -> None:
        # The C library's own way to write, which avoids reading what it overwrites.
        wait([pool.submit(ctypes.memset, piece.ctypes.data, 1, piece.nbytes) for piece in pieces])

    return run, target.nbytes
