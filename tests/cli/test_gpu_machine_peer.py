"""A GPU's ceilings with and without the compiler."""

import ctypes

import pytest

from tvm_conv3dt.cli import gpu_machine_peer
from tvm_conv3dt.errors import CompileError, PlatformError
from tvm_conv3dt.measure.load import FMA, MATRIX
from tvm_conv3dt.measure.peers.problem import Problem
from tvm_conv3dt.spec import Workload

WORKLOAD = Workload.make([1, 2, 3, 2, 4], [3, 3, 3, 2, 4], [1, 4, 6, 4, 2], 2)


class Gpu:
    """Takes all that it is told."""

    name, arch, capability, multiprocessors = "Tester", "sm_90", (9, 0), 3

    def __init__(self):
        self.launched = []
        self.waits = 0

    def free_bytes(self):
        return 1 << 30

    def allocate(self, size, value=0):
        self.state = size
        return 256

    def copy(self, to, by, size):
        pass

    def fill(self, address, value, size):
        pass

    def kernel(self, binary, name):
        assert binary == b"code"
        return name

    def launch(self, kernel, blocks, threads, arguments):
        self.launched.append((kernel, blocks, threads, [each.value for each in arguments]))

    def synchronize(self):
        self.waits += 1


@pytest.fixture
def gpu(monkeypatch):
    gpu = Gpu()
    monkeypatch.setattr(gpu_machine_peer, "Gpu", lambda: gpu)
    return gpu


@pytest.fixture
def compiled(monkeypatch):
    pytest.importorskip("tvm")
    from tvm_conv3dt.compiler import gpu_peak

    code = type("Code", (), {"fatbin": b"code"})
    monkeypatch.setattr(gpu_peak, "compile_peaks", lambda arch: code)
    return gpu_peak


def labels(variants):
    return [each.layout.rpartition(":")[0] for each in variants]


def test_memory_and_peaks_are_timed(gpu, compiled):
    started = gpu_machine_peer.start(2, FMA, MATRIX)
    assert started.version == "Tester"
    variants = started.prepare(Problem.of(WORKLOAD))
    assert labels(variants) == ["copy", "write", FMA, MATRIX, f"move {WORKLOAD.id}"]
    assert all(each.array is None for each in variants)


@pytest.mark.parametrize("wanted", [FMA, MATRIX])
def test_kernel_is_launched_on_all_multiprocessors(wanted, gpu, compiled):
    ((run, operations),) = gpu_machine_peer.peaks(gpu, [wanted]).values()
    run()
    name = {FMA: compiled.FMA, MATRIX: compiled.MATRIX}[wanted]
    blocks, steps = 3 * compiled.BLOCKS, compiled.STEPS[name]
    assert gpu.launched == [(name, blocks, compiled.THREADS, [256, steps])]
    assert gpu.waits == 1
    assert gpu.state == compiled.sums_bytes(blocks)
    assert operations == compiled.operations(name, blocks, steps)


def test_no_compiler_is_no_peak(gpu, monkeypatch):
    monkeypatch.setattr(gpu_machine_peer, "has_compiler", lambda: False)
    assert gpu_machine_peer.peaks(gpu, [FMA]) == {}
    assert labels(gpu_machine_peer.start(1, FMA).prepare(Problem.of(WORKLOAD)))[:2] == [
        "copy",
        "write",
    ]


@pytest.mark.parametrize("error", [CompileError("no"), PlatformError("an old driver")])
def test_kernels_that_cannot_be_had_are_no_peaks(error, gpu, compiled, monkeypatch):
    def refuse(*arguments):
        raise error

    monkeypatch.setattr(gpu, "kernel", refuse)
    assert gpu_machine_peer.peaks(gpu, [FMA, MATRIX]) == {}


def test_arguments_are_the_types_that_the_kernels_declare(gpu, compiled):
    kinds = []
    gpu.launch = lambda kernel, blocks, threads, arguments: kinds.extend(map(type, arguments))
    gpu_machine_peer.peaks(gpu, [FMA])[FMA][0]()
    assert kinds == [ctypes.c_uint64, ctypes.c_int]
