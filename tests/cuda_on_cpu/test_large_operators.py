"""Are elements past 2**31 found, and written? Only the last blocks are executed, on memory that mostly is not there."""

from __future__ import annotations

import mmap
from math import prod

import numpy as np
import pytest

from tvm_conv3dt import device as devices
from tvm_conv3dt.compiler import schedule
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import DATA_FORMATS, Workload

from .operators import emulated

H100 = devices.get("cuda-sm90")
NO_RESERVE = 0x4000  # memory is there when it is written

# Input and output of 2.2e9 elements; an output of 4.3e9; 2.3e9 positions, more than half of them of the second volume.
LARGE = {
    "both": ((1, 520, 1024, 1024, 4), (1, 1, 1, 4, 4), (1, 520, 1024, 1024, 4), 1),
    "output": ((1, 512, 512, 512, 8), (2, 2, 2, 4, 8), (1, 1024, 1024, 1024, 4), 2),
    "positions": ((2, 1100, 1024, 1024, 1), (1, 1, 1, 1, 1), (2, 1100, 1024, 1024, 1), 1),
}


def absent(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that take memory where they are written."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
    memory = mmap.mmap(-1, prod(shape) * dtype.itemsize, flags=flags)
    return np.frombuffer(memory, dtype).reshape(shape)


def last_row(array: np.ndarray, workload: Workload, rows: int) -> np.ndarray:
    """The last rows of depth and height of the last volume, `rows` of each."""
    spatial = (slice(-rows, None), slice(-rows, None), slice(None))
    first = workload.data_format.index("D")
    index = [slice(-1, None), *[slice(None)] * 4]
    index[first : first + 3] = spatial
    return array[tuple(index)]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("name", LARGE)
def test_last_row_is_right(name, data_format, dtype):
    large = Workload.make(*LARGE[name]).recast(data_format, dtype)
    its = schedule.default_schedule(large, H100)
    layout = its.layout(H100)
    functions = emulated(its, H100)
    # No row reaches another one's results: one is as a workload of its own.
    x, y = (absent(shape, large.numpy_dtype) for shape in (large.input, large.output_shape))
    row, results = last_row(x, large, 1), last_row(y, large, large.strides[0])
    one = Workload.make(**{**large.to_dict(), "input": row.shape, "output_shape": results.shape})
    row[...], filters, _ = integer_data(one, seed=0)
    packed = np.full(layout.packed_shape, np.nan, layout.packed_dtype)
    results[...] = np.nan
    functions["pack"](filters, packed)
    tiles = -(-one.input_spatial[2] // layout.positions)
    functions["run"](x, packed, y, last=tiles * prod(layout.phases) * layout.blocks)
    assert np.array_equal(results, reference(one, row, filters))
