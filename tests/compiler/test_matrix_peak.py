"""Does the kernel do all that it counts, on tiles in registers, and nothing else?"""

import re

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")
ml_dtypes = pytest.importorskip("ml_dtypes")

from tvm_conv3dt import cpu, tile_state
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import matrix_peak
from tvm_conv3dt.compiler.tile_registers import configuration
from tvm_conv3dt.errors import CompileError, PlatformError, UnsupportedError

PRODUCT = r"tdpbf16ps\t%tmm6, %tmm7, %tmm([0-5])|tdpbf16ps\t%tmm7, %tmm6, %tmm([0-5])"

WITH_TILES = catalogue.get("x86-64-v4-amx")

needs_tiles = pytest.mark.skipif(
    not cpu.features().issuperset(WITH_TILES.cpu_features) or tile_state.refusal() != "",
    reason="this machine has no tiles of bfloat16",
)


def test_loop_has_nothing_but_products():
    assembly = matrix_peak.compile_matrix_peak(WITH_TILES).mod.inspect_source("asm")
    lines = [line.strip() for line in assembly.splitlines()]
    lines = [line for line in lines if line.endswith(":") or not line.startswith((".", "#"))]
    places = [place for place, line in enumerate(lines) if re.fullmatch(PRODUCT, line)]
    first = max(place for place in range(places[0]) if re.fullmatch(r"\.LBB\w+:", lines[place]))
    label = lines[first].rstrip(":")
    last = next(place for place in range(first, len(lines)) if lines[place].endswith(f"\t{label}"))
    body = [line for line in lines[first:last] if not line.endswith(":")]
    others = [line for line in body if not re.fullmatch(PRODUCT, line)]
    # LLVM may unroll, so the count is a multiple. What is left counts.
    found = len(body) - len(others)
    assert found > 0
    assert found % matrix_peak.SUMS == 0
    assert len(others) <= 2, others
    assert not any("(" in line for line in others)


def test_tiles_are_released_by_every_thread_that_configured_them():
    assembly = matrix_peak.compile_matrix_peak(WITH_TILES).mod.inspect_source("asm")
    assert assembly.count("\tldtilecfg") == assembly.count("\ttilerelease") == 1


@needs_tiles
@pytest.mark.parametrize("threads", [1, 3])
def test_every_tile_of_sums_takes_every_product(threads):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-1, 2, (16, 32)).astype(np.float32) for _ in range(2))
    # A row of the second has the elements of two rows in turns.
    turned = b.reshape(16, 2, 16).transpose(0, 2, 1).reshape(16, 32)
    bits = (np.ascontiguousarray(each).astype(ml_dtypes.bfloat16) for each in (a, turned))
    factors = (tvm.runtime.tensor(each.view(np.uint16)) for each in bits)
    sums = tvm.runtime.tensor(np.full((threads, matrix_peak.SUMS, 16, 16), np.nan, np.float32))
    run = matrix_peak.compile_matrix_peak(WITH_TILES)[matrix_peak.SYMBOL]
    tile_state.request(WITH_TILES.cpu_features)
    run(tvm.runtime.tensor(configuration()), *factors, sums)
    product = a @ b.reshape(32, 16)  # 32 of one, so sums stay below 2**24 and are exact
    expected = np.broadcast_to(product * matrix_peak.STEPS, sums.shape)
    np.testing.assert_array_equal(sums.numpy(), expected)


@needs_tiles
def test_loaded_kernel_runs_and_counts_all_threads():
    run, operations = matrix_peak.load(WITH_TILES, 1)
    run()
    assert operations == 2 * 16 * 16 * 32 * matrix_peak.SUMS * matrix_peak.STEPS


@pytest.mark.parametrize("name", ["x86-64-v4", "aarch64", "cuda-sm80"])
def test_device_without_such_a_unit_is_refused(name):
    rule = f"failed to compile peak of the matrix unit with {name}: it has no amx_bf16"
    with pytest.raises(UnsupportedError, match=rule):
        matrix_peak.compile_matrix_peak(catalogue.get(name))


def test_failure_of_the_compiler_is_told(monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("first line\nthe cause")

    monkeypatch.setattr(matrix_peak.tvm, "compile", refuse)
    with pytest.raises(CompileError, match=r"failed to compile peak of .*the cause"):
        matrix_peak.compile_matrix_peak(WITH_TILES)


def test_registers_that_the_kernel_refuses_are_an_error(monkeypatch):
    monkeypatch.setattr(tile_state, "refusal", lambda: "the kernel refuses")
    with pytest.raises(PlatformError, match=r"failed to use matrix unit with .*kernel refuses"):
        matrix_peak.load(WITH_TILES, 1)
