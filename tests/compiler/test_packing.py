"""Do packed filters hold what the kernels read?"""

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.packing import define_packing
from tvm_conv3dt.spec import Workload


def workload_of(out_channels):
    return Workload.make(
        (1, 2, 2, 2, 3), (1, 2, 3, out_channels, 3), (1, 2, 4, 6, out_channels), (1, 2, 3)
    )


def pack(layout, filters):
    module = tvm.compile(
        tvm.IRModule({"pack": define_packing(layout, "pack")}), target={"kind": "llvm"}
    )
    packed = tvm.runtime.tensor(np.full(layout.packed_shape, np.nan, np.float32))
    module["pack"](tvm.runtime.tensor(filters), packed)
    return packed.numpy()


@pytest.mark.parametrize(("out_channels", "lanes"), [(8, 8), (9, 8), (1, 16), (33, 4), (3, 1)])
def test_channels_stand_in_blocks_filled_with_zeros(out_channels, lanes):
    workload = workload_of(out_channels)
    filters = np.arange(1, 18 * out_channels + 1, dtype=np.float32).reshape(workload.filters)
    blocks = -(-out_channels // lanes)
    full = np.zeros((1, 2, 3, blocks * lanes, 3), np.float32)
    full[..., :out_channels, :] = filters
    expected = np.moveaxis(full.reshape(1, 2, 3, blocks, lanes, 3), (3, 4), (0, 5))
    assert np.array_equal(pack(Layout(workload, lanes), filters), expected)


def test_values_that_are_not_finite_are_kept():
    workload = workload_of(3)
    filters = np.zeros(workload.filters, np.float32)
    filters[0, 0, 0, :, 0] = np.nan, np.inf, -np.inf
    packed = pack(Layout(workload, 4), filters)[0, 0, 0, 0, 0]
    assert np.array_equal(packed, [np.nan, np.inf, -np.inf, 0], equal_nan=True)


def test_folded_phases_stand_before_channels():
    # One axis of stride 2 and 3 taps: output 2q reads input q by tap 0 and q - 1 by tap 2, 2q + 1 reads q by tap 1.
    workload = Workload.make((1, 1, 1, 4, 1), (1, 1, 3, 2, 1), (1, 1, 1, 8, 2), (1, 1, 2))
    filters = np.array([[1, 2], [3, 4], [5, 6]], np.float32).reshape(workload.filters)
    packed = pack(Layout(workload, 8, "fold-w"), filters)
    before, here = packed.reshape(2, 8)
    assert before.tolist() == [5, 6, 0, 0, 0, 0, 0, 0]
    assert here.tolist() == [1, 2, 3, 4, 0, 0, 0, 0]


def test_packing_takes_filters_of_any_alignment():
    function = define_packing(Layout(workload_of(3), 8), "pack")
    alignments = {p.name: int(p.data_alignment) for p in function.params}
    assert alignments == {"filters": 4, "packed": 64}
