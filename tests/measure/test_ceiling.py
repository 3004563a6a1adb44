"""The roofline's arithmetic, and that its measurements do the work they count."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tvm_conv3dt.errors import PlatformError
from tvm_conv3dt.measure import ceiling
from tvm_conv3dt.measure.ceiling import Ceilings
from tvm_conv3dt.spec import Workload

WORKLOAD = Workload.make([1, 4, 4, 4, 8], [2, 2, 2, 4, 8], [1, 8, 8, 8, 4], 2)


def ceilings(gflops=1e9, copy=1e9, write=1e9, cached=1e9, cache_bytes=0):
    return Ceilings(gflops, copy, write, cached, cache_bytes, threads=1)


OUTPUT_BYTES = 8 * 8 * 8 * 4 * 4


@pytest.mark.parametrize(
    ("found", "limit"),
    [
        (ceilings(gflops=WORKLOAD.flops / 1e9), "compute"),
        (ceilings(copy=WORKLOAD.bytes / 1e9), "memory"),
        (ceilings(write=OUTPUT_BYTES / 1e9), "memory"),
        (ceilings(cached=WORKLOAD.bytes / 1e9, cache_bytes=WORKLOAD.bytes), "cache"),
    ],
    ids=["compute", "copy", "write", "cache"],
)
def test_time_is_that_of_the_tightest_limit(found, limit):
    assert (found.seconds(WORKLOAD), found.limit(WORKLOAD)) == (1.0, limit)


def test_cache_limits_what_fits_into_it_only():
    one_less = ceilings(copy=WORKLOAD.bytes / 1e9, cached=1e9, cache_bytes=WORKLOAD.bytes - 1)
    assert one_less.seconds(WORKLOAD) == 1.0


def test_machine_without_an_entry_has_no_known_cache(monkeypatch):
    def refuse():
        raise PlatformError("unknown")

    monkeypatch.setattr(ceiling.device, "host", refuse)
    assert ceiling.cache_bytes() == 0


def test_product_does_the_operations_that_it_counts():
    multiply, flops = ceiling.sgemm(16)
    assert flops == 2 * 16**3
    assert np.isfinite(multiply()).all()


@pytest.mark.parametrize("parts", [1, 3])
def test_copy_moves_the_bytes_that_it_counts(monkeypatch, parts):
    moved = []
    monkeypatch.setattr(ceiling.np, "copyto", lambda to, by: moved.append(to.nbytes + by.nbytes))
    with ThreadPoolExecutor(parts) as pool:
        run, size = ceiling.copy(pool, parts, 1 << 12)
        run()
    assert size == 2 << 12 == sum(moved)
    assert len(moved) == parts


def test_repeated_copy_counts_every_pass(monkeypatch):
    moved = []
    monkeypatch.setattr(ceiling.np, "copyto", lambda to, by: moved.append(to.nbytes + by.nbytes))
    with ThreadPoolExecutor(2) as pool:
        run, size = ceiling.copy(pool, 2, 1 << 12, passes=3)
        run()
    assert size == 3 * (2 << 12) == sum(moved)


@pytest.mark.parametrize("parts", [1, 3])
def test_write_fills_the_bytes_that_it_counts(monkeypatch, parts):
    filled = []
    monkeypatch.setattr(ceiling.ctypes, "memset", lambda to, by, size: filled.append(size))
    with ThreadPoolExecutor(parts) as pool:
        run, size = ceiling.write(pool, parts, 1 << 12)
        run()
    assert size == 1 << 12 == sum(filled)
    assert len(filled) == parts


def test_measurement_gives_positive_limits(monkeypatch):
    monkeypatch.setattr(
        ceiling,
        "loads",
        lambda pool, threads: {
            "product": ceiling.sgemm(64),
            "copy": ceiling.copy(pool, threads, 1 << 16),
            "write": ceiling.write(pool, threads, 1 << 16),
            "cached copy": ceiling.copy(pool, threads, 1 << 12, 4),
        },
    )
    found = ceiling.measure(threads=2, seconds=0)
    assert min(found.gflops, found.copy_gbs, found.write_gbs, found.cached_gbs) > 0
    assert found.threads == 2
