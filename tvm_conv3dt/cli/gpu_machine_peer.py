"""The first GPU's ceilings in the form of a peer: its memory, and the peaks that only the compiler can make kernels for."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from tvm_conv3dt.cli.installed import has_compiler
from tvm_conv3dt.errors import Conv3dtError
from tvm_conv3dt.measure.gpu import Gpu
from tvm_conv3dt.measure.gpu_ceiling import Memory
from tvm_conv3dt.measure.load import FMA, MATRIX, Load
from tvm_conv3dt.measure.peers.machine import variants
from tvm_conv3dt.measure.peers.problem import Problem, Started, Variant

__all__ = ["peaks", "start"]

_FILLING = 0x3F  # of every byte; as a float32 it is 0.75


def start(threads: int, *wanted: str) -> Started:
    """Allocate what is copied, and compile the kernels of the peaks that are wanted: `FMA`, `MATRIX` or both."""
    del threads
    gpu = Gpu()
    memory = Memory(gpu)
    always = variants({**memory.loads(), **peaks(gpu, wanted)})

    def prepare(problem: Problem) -> Sequence[Variant]:
        return [*always, *variants(memory.move(problem.workload))]

    return Started(gpu.name, prepare)


def peaks(gpu: Gpu, wanted: Sequence[str]) -> dict[str, Load]:
    """Return the peaks to time; nothing where the compiler is missing or refuses their kernels."""
    if not has_compiler():
        return {}
    from tvm_conv3dt.compiler import gpu_peak

    names = {FMA: gpu_peak.FMA, MATRIX: gpu_peak.MATRIX}
    blocks = gpu_peak.BLOCKS * gpu.multiprocessors
    try:
        binary = gpu_peak.compile_peaks(gpu.arch).fatbin
        return {each: _load(gpu, binary, names[each], blocks) for each in wanted}
    except Conv3dtError:
        # What the GPU's clock and units give is the limit then, and the report says that it is.
        return {}


def _load(gpu: Gpu, binary: bytes, name: str, blocks: int) -> Load:
    from tvm_conv3dt.compiler import gpu_peak

    steps = gpu_peak.STEPS[name]
    kernel = gpu.kernel(binary, name)
    state = gpu.allocate(gpu_peak.sums_bytes(blocks), _FILLING)
    arguments = (ctypes.c_uint64(state), ctypes.c_int(steps))

    def run() -> None:
        gpu.launch(kernel, blocks, gpu_peak.THREADS, arguments)
        gpu.synchronize()

    return run, gpu_peak.operations(name, blocks, steps)
