"""Are elements past 2**31 found, and written?"""

import numpy as np
import psutil
import pytest

pytest.importorskip("tvm")
pytest.importorskip("ml_dtypes")

from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.schedule import default_schedule
from tvm_conv3dt.memory import aligned_copy, aligned_empty
from tvm_conv3dt.reference import reference
from tvm_conv3dt.spec import DATA_FORMATS, DTYPES, Workload

# Input and output of 2.2e9 elements; an output of 4.3e9; past 2**31 only by the batch.
LARGE = {
    "both": ((1, 520, 1024, 1024, 4), (1, 1, 1, 4, 4), (1, 520, 1024, 1024, 4), 1),
    "output": ((1, 512, 512, 512, 8), (2, 2, 2, 4, 8), (1, 1024, 1024, 1024, 4), 2),
    "batch": ((3, 512, 512, 512, 8), (3, 3, 3, 1, 8), (3, 1024, 1024, 1024, 1), 2),
}


def workload(name, data_format="NDHWC", dtype="float32"):
    return Workload.make(*LARGE[name]).recast(data_format, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("name", LARGE)
def test_large_arrays_are_compiled(name, data_format, dtype, host):
    large = workload(name, data_format, dtype)
    default = default_schedule(large, host)
    built = kernel.compile_kernel(default.layout(host), host, default.apply(host))
    assert built.workspace_bytes <= 0.05 * large.bytes


@pytest.mark.slow
@pytest.mark.parametrize("data_format", DATA_FORMATS)
def test_elements_past_32_bits_are_right(data_format, tensor, host):
    large = workload("both", data_format, "bfloat16")
    if psutil.virtual_memory().available < 1.2 * large.bytes:
        pytest.skip(f"needs {1.2 * large.bytes / 1e9:.0f} GB of free memory")
    default = default_schedule(large, host)
    built = kernel.compile_kernel(default.layout(host), host, default.apply(host))
    x, y = (aligned_empty(s, large.numpy_dtype) for s in (large.input, large.output_shape))
    rng = np.random.default_rng(0)
    plane = rng.integers(-8, 9, (1 << 20) + 1).astype(large.numpy_dtype)
    x.reshape(-1)[...] = np.resize(plane, x.size)  # of a period that is no size of the array
    filters = aligned_copy(rng.integers(-8, 9, large.filters).astype(large.numpy_dtype))
    packed = aligned_empty(built.packed_shape, np.dtype(built.packed_dtype))
    built.pack(tensor(filters), tensor(packed))
    y[...] = np.nan
    built.run(tensor(x), tensor(packed), tensor(y))
    depth = large.data_format.index("D")
    for d in (0, 255, 511, 512, 519):
        one = workload("both", data_format, "bfloat16")
        sizes = [1 if axis == depth else size for axis, size in enumerate(one.input)]
        one = Workload.make(sizes, one.filters, sizes, 1, data_format=data_format, dtype="bfloat16")
        part, found = (np.take(each, [d], axis=depth) for each in (x, y))
        assert np.array_equal(found, reference(one, part, filters).astype(one.numpy_dtype))
