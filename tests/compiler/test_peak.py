"""Does the kernel do all that it counts, in full registers, and nothing else?"""

import re

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import peak
from tvm_conv3dt.errors import CompileError, UnsupportedError

# One multiply-add, and its registers: of the full width, with no operand in memory.
MULTIPLY_ADDS = {
    "x86-64-v3": r"vfmadd\d+ps\t%ymm\d+, %ymm\d+, %ymm\d+",
    "x86-64-v4": r"vfmadd\d+ps\t%zmm\d+, %zmm\d+, %zmm\d+",
    "aarch64": r"fmla\tv\d+\.4s, v\d+\.4s, v\d+\.4s",
}


def loop(assembly, pattern):
    """The instructions of the one loop that holds the pattern."""
    lines = [line.strip() for line in assembly.splitlines()]
    places = [place for place, line in enumerate(lines) if re.fullmatch(pattern, line)]
    first = max(place for place in range(places[0]) if lines[place].endswith(":"))
    label = lines[first].rstrip(":")
    last = next(place for place in range(first, len(lines)) if lines[place].endswith(f"\t{label}"))
    body = lines[first + 1 : last + 1]
    return [line for line in body if not line.startswith((".", "#", "//"))]


@pytest.mark.parametrize(("name", "pattern"), MULTIPLY_ADDS.items(), ids=MULTIPLY_ADDS)
def test_loop_has_nothing_but_multiply_adds_on_full_registers(name, pattern):
    device = catalogue.get(name)
    body = loop(peak.compile_peak(device).mod.inspect_source("asm"), pattern)
    others = [line for line in body if not re.fullmatch(pattern, line)]
    # LLVM may unroll, so the count is a multiple. What is left counts and jumps.
    found = len(body) - len(others)
    assert found > 0
    assert found % peak.accumulators(device) == 0
    assert len(others) <= 3, others
    assert not any("(" in line or "[" in line for line in others)


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"])
def test_accumulators_hide_the_latency_and_leave_registers(name):
    device = catalogue.get(name)
    assert 10 <= peak.accumulators(device) <= device.vector_registers - 2


@pytest.mark.parametrize("threads", [1, 3])
def test_every_accumulator_takes_every_step(host, threads):
    size = peak.operations(host) // (2 * peak.STEPS)
    lanes = size // peak.accumulators(host)
    start = np.random.default_rng(0).uniform(1, 2, (threads, size)).astype(np.float32)
    state = tvm.runtime.tensor(start)
    # Compound interest: (1 + 1/n) ** n is nearly e.
    factor = tvm.runtime.tensor(np.full(lanes, 1 / peak.STEPS, np.float32))
    peak.compile_peak(host)[peak.SYMBOL](state, factor)
    np.testing.assert_allclose(state.numpy(), start * np.e, rtol=0.02)


def test_loaded_kernel_keeps_its_numbers_in_range(host, monkeypatch):
    kept = []
    monkeypatch.setattr(peak.tvm.runtime, "tensor", lambda array: kept.append(array) or array)
    monkeypatch.setattr(peak, "compile_peak", lambda device: {peak.SYMBOL: lambda *_: None})
    monkeypatch.setattr(peak.tvm, "get_global_func", lambda name: lambda *_: None)
    peak.load(host, 2)
    start, factor = kept
    assert start.shape[0] == 2
    np.testing.assert_array_equal(start + start * factor[0], -start)


def test_loaded_kernel_runs_and_counts_all_threads(host):
    run, operations = peak.load(host, 1)
    run()
    assert operations == peak.operations(host)


def test_device_that_is_not_compiled_for_is_refused():
    with pytest.raises(UnsupportedError, match="cuda-sm80"):
        peak.compile_peak(catalogue.get("cuda-sm80"))


def test_failure_of_the_compiler_is_told(host, monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("first line\nthe cause")

    monkeypatch.setattr(peak.tvm, "compile", refuse)
    with pytest.raises(CompileError, match=r"failed to compile peak of .*the cause"):
        peak.compile_peak(host)
