"""Does every legal call give what the reference gives, whatever its shapes?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from math import gcd
from zlib import crc32

import pytest

import tvm_conv3dt
from tvm_conv3dt.measure.verify import verify
from tvm_conv3dt.reference import integer_data, random_data
from tvm_conv3dt.runtime import get_num_threads, set_num_threads
from tvm_conv3dt.spec import DATA_FORMATS, DTYPES, PADDINGS, PRECISIONS, Workload

from . import legal
from .calling import by_function

pytest.importorskip("tvm")


def operator_of(workload: Workload, filters, bias):
    from tvm_conv3dt.compiler.cache import bundle_for

    return tvm_conv3dt.load(bundle_for(workload)).operator(workload, filters, bias)


def new_result(workload: Workload, x, filters, bias, out) -> None:
    """By the function, into memory of its own that was full of NaN."""
    out[...] = by_function(workload, x, filters, bias)


def given_result(workload: Workload, x, filters, bias, out) -> None:
    """By the function, into the caller's array."""
    assert by_function(workload, x, filters, bias, out=out) is out


def bundle(workload: Workload, x, filters, bias, out) -> None:
    """By the operator of a bundle, as deployed."""
    assert operator_of(workload, filters, bias)(x, out=out) is out


WAYS = (new_result, given_result, bundle)
EVERY_CALL = legal.workloads(explicit=True, precision=True)


@pytest.mark.usefixtures("poisoned")
def test_legal_calls_equal_the_reference(calls: int, sweep: Callable[..., None], tell) -> None:
    ways = Counter()

    def check(workload: Workload) -> None:
        way = WAYS[crc32(workload.id.encode()) % len(WAYS)]
        ways[way.__name__] += 1
        for seed in range(20):  # a small right result may happen to be mostly zeros
            verification = verify(workload, partial(way, workload), seeds=(seed,))
            if verification.status != "MISTRUSTED":
                break
        verification.raise_if_failed()

    sweep("legal calls", calls, EVERY_CALL, check)
    tell("  through " + ", ".join(f"{way}: {count}" for way, count in sorted(ways.items())))


@pytest.mark.usefixtures("poisoned")
def test_bits_do_not_depend_on_threads_or_on_the_run(calls: int, sweep: Callable[..., None]):
    most = get_num_threads()

    def check(workload: Workload) -> None:
        for data in (integer_data, random_data):
            x, filters, bias = data(workload, 1)
            operator = operator_of(workload, filters, bias)
            results = []
            try:
                for threads in (*range(1, most + 1), most, 1):
                    set_num_threads(threads)
                    results.append(operator(x).tobytes())
            finally:
                set_num_threads(None)
            assert len(set(results)) == 1, "results differ in their bits"

    sweep("threads", max(1, calls // 4), EVERY_CALL, check)


def corners(workload: Workload) -> set[str]:
    """What is special about a workload."""
    found = {workload.padding, workload.dtype, workload.data_format, f"n{workload.batch}"}
    if workload.precision:
        found.add(f"precision {workload.precision}")
    for axis in workload.axes:
        divisor = gcd(axis.stride, axis.dilation)
        both = axis.stride > 1 and axis.dilation > 1
        reach = (axis.input - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1
        here = {
            "holes": axis.kernel < axis.stride,
            "kernel of all": axis.kernel == axis.input > 1,
            "one wide": axis.input == 1,
            "long": axis.input in legal.LONG,
            "tail": workload.padding == "VALID" and axis.output > reach,
            "cut": axis.pad > 0,
            "coprime": both and divisor == 1,
            "multiple": both and divisor in (axis.stride, axis.dilation),
            "apart": axis.dilation >= axis.input * axis.stride > 1 and axis.kernel > 1,
            "common factor": 1 < divisor < min(axis.stride, axis.dilation),
        }
        found |= {name for name, there in here.items() if there}
    if workload.out_channels % 8:
        found.add("odd channels")
    return found


def test_the_sweep_reaches_each_corner_in_one_call_of_twenty() -> None:
    drawn = legal.draw(400, 0, precision=True)
    counts = Counter(corner for workload in drawn for corner in corners(workload))
    assert len(counts) == len((*PADDINGS, *DTYPES, *DATA_FORMATS, *PRECISIONS)) + 3 + 11
    assert min(counts.values()) >= len(drawn) // 20, counts
    assert all(w.flops <= legal.FLOPS or w.in_channels == w.out_channels == 1 for w in drawn)
