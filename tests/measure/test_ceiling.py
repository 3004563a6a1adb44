"""The roofline's arithmetic, and that its measurements do the work they count."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tvm_conv3dt.measure import ceiling
from tvm_conv3dt.measure.ceiling import Ceilings
from tvm_conv3dt.spec import Workload

WORKLOAD = Workload.make([1, 4, 4, 4, 8], [2, 2, 2, 4, 8], [1, 8, 8, 8, 4], 2)


def test_time_is_that_of_the_tighter_limit():
    compute = Ceilings(gflops=WORKLOAD.flops / 1e9, copy_gbs=1e9, threads=1)
    memory = Ceilings(gflops=1e9, copy_gbs=WORKLOAD.bytes / 1e9, threads=1)
    assert (compute.seconds(WORKLOAD), compute.limit(WORKLOAD)) == (1.0, "compute")
    assert (memory.seconds(WORKLOAD), memory.limit(WORKLOAD)) == (1.0, "memory")


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


def test_measurement_gives_positive_limits(monkeypatch):
    small_product, small_copy = ceiling.sgemm(64), ceiling.copy
    monkeypatch.setattr(ceiling, "sgemm", lambda: small_product)
    monkeypatch.setattr(ceiling, "copy", lambda pool, parts: small_copy(pool, parts, 1 << 16))
    found = ceiling.measure(threads=2, seconds=0)
    assert found.gflops > 0
    assert found.copy_gbs > 0
    assert found.threads == 2
