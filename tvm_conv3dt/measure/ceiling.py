"""What this machine can reach at all: a matrix product, and a copy, measured with NumPy.

A kernel's speed is told as a share of these, so that figures of different machines compare.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np

from tvm_conv3dt import threads as core_threads
from tvm_conv3dt.measure.timing import interleave
from tvm_conv3dt.spec import Workload

__all__ = ["Ceilings", "copy", "measure", "sgemm"]


@dataclass(frozen=True)
class Ceilings:
    """The machine's two limits.

    Attributes
    ----------
    gflops : float
        Of a large single-precision matrix product, in 1e9 operations per second.
    copy_gbs : float
        Of a copy too large for the caches, in 1e9 bytes per second, reading and writing both counted.
    threads : int
        How many threads copied. NumPy's BLAS decides itself how many multiply: all cores, or what
        its environment variables say.
    """

    gflops: float
    copy_gbs: float
    threads: int

    def seconds(self, workload: Workload) -> float:
        """Return the shortest time that the two limits allow: the roofline.

        Every operand is counted as moved once. A workload that fits into the caches may be faster than the
        memory's limit says, and its share is then above 1.
        """
        return max(self.compute_seconds(workload), self.memory_seconds(workload))

    def compute_seconds(self, workload: Workload) -> float:
        """Return the time of the arithmetic alone."""
        return workload.flops / (self.gflops * 1e9)

    def memory_seconds(self, workload: Workload) -> float:
        """Return the time of moving every operand once."""
        return workload.bytes / (self.copy_gbs * 1e9)

    def limit(self, workload: Workload) -> str:
        """Return what limits the workload: ``"compute"`` or ``"memory"``."""
        compute_bound = self.compute_seconds(workload) >= self.memory_seconds(workload)
        return "compute" if compute_bound else "memory"


def measure(threads: int | None = None, seconds: float = 1.0) -> Ceilings:
    """Measure the limits.

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
    multiply, flops = sgemm()
    with ThreadPoolExecutor(count) as pool:
        move, size = copy(pool, count)
        timings = interleave({"sgemm": multiply, "copy": move}, seconds, min_rounds=3)
    return Ceilings(
        gflops=flops / timings["sgemm"].median / 1e9,
        copy_gbs=size / timings["copy"].median / 1e9,
        threads=count,
    )


def sgemm(size: int = 1536) -> tuple[Callable[[], object], int]:
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


def copy(
    pool: ThreadPoolExecutor, parts: int, size: int = 96 << 20
) -> tuple[Callable[[], object], int]:
    """Return a copy from memory to memory to time beside kernels.

    Parameters
    ----------
    pool : ThreadPoolExecutor
        Copies the parts; NumPy lets them run at once.
    parts : int
        Into how many pieces the copy is cut.
    size : int
        Bytes of the source; far above the caches.

    Returns
    -------
    tuple of (callable, int)
        The copy, to memory that is reused; and the bytes that it reads and writes.
    """
    source = np.ones(size // 8, np.float64)
    target = np.zeros_like(source)
    pieces = list(zip(np.array_split(target, parts), np.array_split(source, parts), strict=True))

    def run() -> None:
        wait([pool.submit(np.copyto, *piece) for piece in pieces])

    return run, 2 * source.nbytes
