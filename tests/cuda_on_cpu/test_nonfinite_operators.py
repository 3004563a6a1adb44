"""Do infinities and NaN go where the definition sends them, in kernels for GPUs, and nowhere else?"""

from __future__ import annotations

import numpy as np
import pytest

from tvm_conv3dt import device as devices
from tvm_conv3dt.compiler import schedule
from tvm_conv3dt.compiler.gemm_layout import GemmLayout, Tile
from tvm_conv3dt.compiler.spaces.point import GpuPoint
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import DATA_FORMATS, Workload

from .operators import computed

ORIN = devices.get("cuda-sm87")

# Phases of different taps, of as many, and of none in part; channels that fill no tile.
WORKLOADS = {
    "taps differ by phase": Workload.make((2, 3, 4, 5, 6), (3, 3, 3, 7, 6), (2, 6, 8, 10, 7), 2),
    "taps are as many": Workload.make((2, 3, 4, 5, 6), (2, 2, 2, 7, 6), (2, 6, 8, 10, 7), 2),
    "holes": Workload.make((2, 3, 4, 5, 6), (1, 2, 2, 7, 6), (2, 9, 12, 10, 7), (3, 3, 2)),
    "dilation": Workload.make(
        (2, 3, 4, 5, 6), (2, 3, 2, 7, 6), (2, 3, 4, 5, 7), 1, dilations=(2, 1, 3)
    ),
}
KINDS = {
    "threads": ("float32", False, "phases", GpuPoint("", "threads", 2, 2)),
    "threads, folded": ("float32", False, "fold", GpuPoint("", "threads", 2, 2)),
    "warps": ("float16", True, "phases", GpuPoint("", "warps", 16, 16)),
}


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WORKLOADS)
def test_one_value_reaches_what_it_is_multiplied_into(name, kind, data_format):
    dtype, matrix_units, folding, point = KINDS[kind]
    workload = WORKLOADS[name].recast(data_format, dtype)
    if folding == "fold":
        axes = [n for n, axis in zip("dhw", workload.phase_axes, strict=True) if axis.phases > 1]
        if not axes:
            pytest.skip("it has one phase")
        folding = f"fold-{''.join(axes)}"
    layout = GemmLayout.of(workload, Tile(32, 16, 16), folding, matrix_units)
    its = schedule.point_schedule(
        workload, ORIN, GpuPoint(layout.name, point.order, point.rows, point.columns)
    )
    x, filters, _ = integer_data(workload, seed=0)
    first, second = x  # of the batch
    first.flat[7], first.flat[-9] = np.nan, np.inf
    second.flat[30] = -np.inf
    found = computed(its, ORIN, (x, filters, None))
    expected = reference(workload, x, filters).astype(found.dtype)
    assert 0 < np.count_nonzero(np.isfinite(expected)) < expected.size
    np.testing.assert_array_equal(found, expected)
