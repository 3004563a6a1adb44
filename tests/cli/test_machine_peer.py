"""The machine's ceilings with and without the compiler."""

import pytest

from tvm_conv3dt.cli import contestants, machine_peer
from tvm_conv3dt.errors import CompileError, PlatformError, UnsupportedError
from tvm_conv3dt.measure import contest, load
from tvm_conv3dt.measure.load import BFLOAT16, FMA
from tvm_conv3dt.measure.peers.problem import Problem
from tvm_conv3dt.spec import Workload

WORKLOAD = Workload.make([1, 2, 3, 2, 4], [3, 3, 3, 2, 4], [1, 4, 6, 4, 2], 2)


@pytest.fixture
def without_peak(monkeypatch):
    monkeypatch.setattr(machine_peer, "has_compiler", lambda: False)


def test_peak_is_timed_beside_all_others(monkeypatch):
    monkeypatch.setattr(machine_peer, "peak", lambda threads: {FMA: (lambda: None, 10 * threads)})
    monkeypatch.setattr(machine_peer, "matrix_peak", lambda threads: {})
    monkeypatch.setattr(load, "loads", lambda pool, threads: {"copy": (lambda: None, 7)})
    variants = machine_peer.start(2).prepare(Problem.of(WORKLOAD))
    labels = [each.layout.rpartition(":")[0] for each in variants]
    assert labels == ["copy", FMA, f"move {WORKLOAD.id}"]
    assert variants[1].layout == f"{FMA}:20"
    assert all(each.array is None for each in variants)


@pytest.mark.parametrize("unit", [{}, {BFLOAT16: (None, 5)}], ids=["none", "one"])
def test_peak_of_the_matrix_unit_is_timed_where_there_is_one(unit, monkeypatch):
    monkeypatch.setattr(machine_peer, "peak", lambda threads: {FMA: (None, 5)})
    monkeypatch.setattr(machine_peer, "matrix_peak", lambda threads: unit)
    monkeypatch.setattr(load, "loads", lambda pool, threads: {})
    variants = machine_peer.start(2).prepare(Problem.of(WORKLOAD))
    labels = [each.layout.partition(":")[0] for each in variants]
    assert labels[:-1] == [FMA, *unit]


def test_peak_is_what_the_kernel_reaches(monkeypatch):
    monkeypatch.setattr(machine_peer, "peak", lambda threads: {FMA: (lambda: None, 10**9)})
    monkeypatch.setattr(machine_peer, "matrix_peak", lambda threads: {BFLOAT16: (None, 4 * 10**9)})
    monkeypatch.setattr(machine_peer, "turn", lambda run, seconds: [0.5])
    assert machine_peer.peak_gflops(2) == 2.0
    assert machine_peer.matrix_peak_gflops(2) == 8.0


def test_forced_blas_kernels_lower_no_ceiling():
    for machine in (contestants.MACHINE, contest.MACHINE):
        assert {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"} <= set(machine.dropped)


def test_no_compiler_is_no_peak(without_peak):
    assert machine_peer.peak(2) == {}
    assert machine_peer.peak_gflops(2) is None
    assert machine_peer.matrix_peak(2) == {}
    assert machine_peer.matrix_peak_gflops(2) is None


def test_kernel_that_does_not_compile_is_no_peak(monkeypatch):
    pytest.importorskip("tvm")
    from tvm_conv3dt.compiler import peak

    def refuse(device, threads):
        raise CompileError("failed to compile")

    monkeypatch.setattr(peak, "load", refuse)
    assert machine_peer.peak(1) == {}


def test_kernel_is_compiled_for_this_machine():
    pytest.importorskip("tvm")
    run, operations = machine_peer.peak(1)[FMA]
    run()
    assert operations > 0


@pytest.mark.parametrize("error", [UnsupportedError, PlatformError, CompileError])
def test_no_matrix_unit_is_no_peak_of_it(error, monkeypatch):
    pytest.importorskip("tvm")
    from tvm_conv3dt.compiler import matrix_peak

    def refuse(device, threads):
        raise error("failed to use matrix unit")

    monkeypatch.setattr(matrix_peak, "load", refuse)
    assert machine_peer.matrix_peak(1) == {}
