"""Does every legal call give what the reference gives, whatever its shapes?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from zlib import crc32

import numpy as np
import pytest

import tvm_conv3dt
from tvm_conv3dt.errors import UnsupportedError
from tvm_conv3dt.measure.verify import verify
from tvm_conv3dt.reference import integer_data, random_data
from tvm_conv3dt.runtime import get_num_threads, set_num_threads
from tvm_conv3dt.spec import Workload

from . import legal

pytest.importorskip("tvm")


def by_function(workload: Workload, x, filters, out) -> None:
    """Run through the public function, whose result lies in memory that was full of NaN."""
    out[...] = tvm_conv3dt.conv3d_transpose(
        x,
        filters,
        workload.output_shape,
        workload.strides,
        workload.padding,
        workload.data_format,
        workload.dilations,
    )


def operator_of(workload: Workload, filters, bias):
    from tvm_conv3dt.compiler.cache import bundle_for

    return tvm_conv3dt.load(bundle_for(workload)).operator(workload, filters, bias)


@pytest.mark.usefixtures("poisoned")
def test_legal_calls_equal_the_reference(calls: int, sweep: Callable[..., None], tell) -> None:
    ways = Counter()

    def check(workload: Workload) -> None:
        plain = not workload.bias and workload.activation is None
        # Of those that the function can ask for, a third go through a bundle too.
        function = plain and crc32(workload.id.encode()) % 3 > 0
        ways["conv3d_transpose" if function else "a bundle"] += 1

        def run(x, filters, bias, out) -> None:
            if function:
                by_function(workload, x, filters, out)
            else:
                assert operator_of(workload, filters, bias)(x, out=out) is out

        for seed in range(20):  # a small right result may happen to be mostly zeros
            verification = verify(workload, run, seeds=(seed,))
            if verification.status != "MISTRUSTED":
                break
        verification.raise_if_failed()

    sweep("legal calls", calls, legal.workloads(legal.supported()), check)
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

    sweep("threads", max(1, calls // 4), legal.workloads(legal.supported()), check)


def test_what_is_not_compiled_yet_is_refused(tell) -> None:
    refused = legal.unsupported()
    tell(f"dtypes and formats that do not compile yet: {len(refused)} of 8 {sorted(refused)}")
    for (dtype, data_format), error in refused.items():
        assert isinstance(error, UnsupportedError), (dtype, data_format)
        assert str(error).startswith("failed to "), (dtype, data_format)


def test_the_sweep_reaches_the_corners() -> None:
    """The strategy's promise: each corner in at least 1 of 20 calls."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    found: Counter[str] = Counter()
    count = 400

    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @seed(0)
    @given(legal.workloads(list(legal.unsupported()) + legal.supported()))
    def draw(workload: Workload) -> None:
        assert workload.flops <= legal.FLOPS or (workload.in_channels, workload.out_channels) == (
            1,
            1,
        )
        corners = {workload.padding, workload.dtype, workload.data_format, f"n{workload.batch}"}
        for axis in workload.axes:
            gcd = int(np.gcd(axis.stride, axis.dilation))
            reach = (axis.input - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1
            corners |= {
                name
                for name, here in (
                    ("holes", axis.kernel < axis.stride),
                    ("kernel of all", axis.kernel == axis.input > 1),
                    ("one wide", axis.input == 1),
                    ("long", axis.input in legal.LONG),
                    ("tail", workload.padding == "VALID" and axis.output > reach),
                    ("cut", axis.pad > 0),
                    ("coprime", gcd == 1 and axis.stride > 1 and axis.dilation > 1),
                    ("multiple", gcd > 1 and gcd in (axis.stride, axis.dilation)),
                    ("common factor", 1 < gcd < min(axis.stride, axis.dilation)),
                )
                if here
            }
        if workload.out_channels % 8:
            corners.add("odd channels")
        found.update(corners)

    draw()
    expected = 4 + 2 + 2 + 3 + 10
    assert len(found) == expected
    assert min(found.values()) >= count // 20, found
