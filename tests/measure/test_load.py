"""Do the loads that tell a machine's limits do the work that they count?"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tvm_conv3dt.measure import load
from tvm_conv3dt.spec import Workload

WORKLOAD = Workload.make([1, 4, 4, 4, 8], [2, 2, 2, 4, 8], [1, 8, 8, 8, 4], 2)


def test_product_does_the_operations_that_it_counts():
    multiply, flops = load.sgemm(16)
    assert flops == 2 * 16**3
    assert np.isfinite(multiply()).all()


@pytest.mark.parametrize("parts", [1, 3])
def test_copy_moves_the_bytes_that_it_counts(monkeypatch, parts):
    moved = []
    monkeypatch.setattr(load.np, "copyto", lambda to, by: moved.append(to.nbytes + by.nbytes))
    with ThreadPoolExecutor(parts) as pool:
        run, size = load.copy(pool, parts, 1 << 12)
        run()
    assert size == 2 << 12 == sum(moved)
    assert len(moved) == parts


@pytest.mark.parametrize("parts", [1, 3])
def test_write_fills_the_bytes_that_it_counts(monkeypatch, parts):
    filled = []
    monkeypatch.setattr(load.ctypes, "memset", lambda to, by, size: filled.append(size))
    with ThreadPoolExecutor(parts) as pool:
        run, size = load.write(pool, parts, 1 << 12)
        run()
    assert size == 1 << 12 == sum(filled)
    assert len(filled) == parts


LARGE = [2, 64, 64, 64, 3]
MOVED = {
    "more written": Workload.make(LARGE, [2, 2, 2, 3, 3], [2, 128, 128, 128, 3], 2),
    "more read": Workload.make(LARGE, [2, 2, 2, 1, 3], [2, 64, 64, 64, 1], 1),
    "hardly any": WORKLOAD,
}


class Library:
    """Counts the bytes that are read and written instead."""

    def __init__(self):
        self.read = self.written = 0

    def memmove(self, to, by, size):
        self.read += size
        self.written += size

    def memset(self, to, by, size):
        self.written += size

    def memchr(self, to, by, size):
        self.read += size.value


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("workload", MOVED.values(), ids=MOVED)
def test_move_reads_and_writes_as_the_workload_does(monkeypatch, workload, parts):
    found = Library()
    monkeypatch.setattr(load, "_LIBC", found)
    for name in ("memmove", "memset"):
        monkeypatch.setattr(load.ctypes, name, getattr(found, name))
    with ThreadPoolExecutor(1) as pool:  # so that none counts while another does
        ((name, (run, size)),) = load.move(pool, parts, workload).items()
        run()
    assert name == f"move {workload.id}"
    assert size == found.read + found.written
    output = int(np.prod(workload.output_shape)) * 4
    assert size % workload.bytes == 0
    assert found.written * workload.bytes == size * output


def test_move_copies_fills_and_searches():
    for workload in MOVED.values():
        with ThreadPoolExecutor(2) as pool:
            ((run, _),) = load.move(pool, 2, workload).values()
            assert run() is None


def test_failure_while_moving_is_not_lost(monkeypatch):
    def refuse(*arguments):
        raise MemoryError("no more")

    monkeypatch.setattr(load.ctypes, "memmove", refuse)
    with ThreadPoolExecutor(2) as pool:
        ((run, _),) = load.move(pool, 2, WORKLOAD).values()
        with pytest.raises(MemoryError):
            run()
