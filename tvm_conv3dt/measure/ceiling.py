"""What this machine can reach at all: multiply-adds, a matrix product, copies and writes.

A kernel's speed is told as a share of these, so that figures of different machines compare. All but the peak of
multiply-adds, whose kernel the compiler makes, need NumPy and the C library only: `tvm_conv3dt.measure.load`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from tvm_conv3dt import threads as core_threads
from tvm_conv3dt.measure.load import (
    BFLOAT16,
    FMA,
    MATRIX,
    MOVE,
    Load,
    loads,
    move,
    written_bytes,
)
from tvm_conv3dt.measure.timing import Timing, rest, turn
from tvm_conv3dt.spec import Workload

__all__ = ["Ceilings", "measure"]

_ROUNDS = 3


@dataclass(frozen=True)
class Ceilings:
    """The machine's limits.

    Attributes
    ----------
    gflops : float or None
        Of a large single-precision matrix product, in 1e9 operations per second; None of a GPU.
    copy_gbs : float
        Of a large copy, in 1e9 bytes per second, reading and writing both counted.
    write_gbs : float
        Of filling large memory, in 1e9 bytes per second.
    threads : int
        How many threads copied and wrote. NumPy's BLAS decides itself how many multiply: all cores, or
        what its environment variables say.
    fma_gflops : float or None
        Of multiply-adds in registers, in 1e9 operations per second; None where the compiler, which makes their
        kernel, was not there.
    move_gbs : mapping of str to float
        By workload id: of `move`, in 1e9 bytes per second, reading and writing both counted.
    matrix_gflops : float or None
        Of float16 products on a GPU's tensor cores, in 1e9 operations per second.
    bfloat16_gflops : float or None
        Of bfloat16 products on a CPU's matrix unit, in 1e9 operations per second; None where it has none, or the compiler
        was not there.
    gpu : str or None
        The GPU's name, where all of these are a GPU's.
    nominal : bool
        Whether the GPU's arithmetic was not measured, but is what its clock and units give at most.
    """

    gflops: float | None
    copy_gbs: float
    write_gbs: float
    threads: int
    fma_gflops: float | None = None
    move_gbs: Mapping[str, float] = field(default_factory=dict)
    matrix_gflops: float | None = None
    bfloat16_gflops: float | None = None
    gpu: str | None = None
    nominal: bool = False

    @classmethod
    def of(cls, timings: Mapping[str, Timing], work: Mapping[str, int], threads: int) -> Ceilings:
        """Return the limits that the medians of `loads` give."""
        rates = {name: work[name] / timings[name].median / 1e9 for name in timings}
        moves = {
            name.removeprefix(MOVE): rate for name, rate in rates.items() if name.startswith(MOVE)
        }
        return cls(
            gflops=rates.get("product"),
            copy_gbs=rates["copy"],
            write_gbs=rates["write"],
            threads=threads,
            fma_gflops=rates.get(FMA),
            move_gbs=moves,
            matrix_gflops=rates.get(MATRIX),
            bfloat16_gflops=rates.get(BFLOAT16),
        )

    @property
    def compute_limits(self) -> dict[str, float]:
        """What arithmetic was measured, by its name, in 1e9 operations per second."""
        limits = {
            "multiply-adds": self.fma_gflops,
            "tensor cores": self.matrix_gflops,
            "bfloat16 matrix unit": self.bfloat16_gflops,
            "matrix product": self.gflops,
        }
        return {name: limit for name, limit in limits.items() if limit is not None}

    @property
    def peak_gflops(self) -> float:
        """The limit of arithmetic of any kind: `fma_gflops` where it is known, and never less than `gflops`.

        A product can be the faster one, where it has units of its own.
        """
        return max(self.compute_limits.values())

    def peak_of(self, workload: Workload) -> float:
        """Return the limit of a workload's arithmetic.

        That of tensor cores is for products of float16 only, and that of a CPU's matrix unit for those of bfloat16. Where
        there is none for a half type its limit is float32's, in which it is added.
        """
        return self._limit_of(workload)[1]

    def peak_name(self, workload: Workload) -> str:
        """Return which of `compute_limits` is the limit of a workload's arithmetic."""
        return self._limit_of(workload)[0]

    def seconds(self, workload: Workload) -> float:
        """Return the shortest time that the limits allow: the roofline.

        ``max(flops / peak, memory)``, with `peak_of` and `memory_seconds` for the latter.
        """
        return max(self.compute_seconds(workload), self.memory_seconds(workload))

    def compute_seconds(self, workload: Workload) -> float:
        """Return the time of the arithmetic alone, at its limit: see `peak_of`."""
        return workload.flops / (self.peak_of(workload) * 1e9)

    def memory_seconds(self, workload: Workload) -> float:
        """Return the time of moving every operand once.

        Where it was measured for this workload, ``bytes / move_gbs``, which is at the speed of whichever caches hold
        so many bytes; elsewhere ``max(bytes / copy_gbs, output bytes / write_gbs)``, since writing alone may be
        slower than a copy, half of which is reading.
        """
        rate = self.move_gbs.get(workload.id)
        if rate is not None:
            return workload.bytes / (rate * 1e9)
        written = written_bytes(workload)
        return max(workload.bytes / (self.copy_gbs * 1e9), written / (self.write_gbs * 1e9))

    def limit(self, workload: Workload) -> str:
        """Return what limits the workload: ``"compute"`` or ``"memory"``, caches included."""
        compute = self.compute_seconds(workload) >= self.memory_seconds(workload)
        return "compute" if compute else "memory"

    def _limit_of(self, workload: Workload) -> tuple[str, float]:
        dtype = workload.product_dtype
        usable = replace(
            self,
            matrix_gflops=self.matrix_gflops if dtype == "float16" else None,
            bfloat16_gflops=self.bfloat16_gflops if dtype == "bfloat16" else None,
        )
        return max(usable.compute_limits.items(), key=lambda item: item[1])


def measure(
    threads: int | None = None,
    seconds: float = 1.0,
    workloads: Iterable[Workload] = (),
    more: Mapping[str, Load] | None = None,
) -> Ceilings:
    """Measure the limits in this process.

    Parameters
    ----------
    threads : int or None
        How many threads copy; None means what the process may use.
    seconds : float
        About how long to measure.
    workloads : iterable of Workload
        Whose bytes to move too.
    more : mapping of str to Load, optional
        What else to time, such as `FMA`.

    Returns
    -------
    Ceilings
        From the medians.
    """
    count = threads or core_threads.available()
    with ThreadPoolExecutor(count) as pool:
        found = {**loads(pool, count), **(more or {})}
        for workload in workloads:
            found.update(move(pool, count, workload))
        samples: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(_ROUNDS):
            for name, (run, _) in found.items():
                samples[name] += turn(run, seconds / _ROUNDS / len(found))
                rest()  # the product's threads spin for longer than a copy takes
    timings = {name: Timing.of(each) for name, each in samples.items()}
    return Ceilings.of(timings, {name: work for name, (_, work) in found.items()}, count)
