"""Do packed filters hold what the kernels read?"""

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")
ml_dtypes = pytest.importorskip("ml_dtypes")

from tvm_conv3dt.compiler.dot_layout import DOT_HALVES, DOT_PAIRS, DotLayout
from tvm_conv3dt.compiler.layout import Layout
from tvm_conv3dt.compiler.mmla_layout import MmlaLayout
from tvm_conv3dt.compiler.packing import define_packing
from tvm_conv3dt.compiler.pair_layout import PairLayout
from tvm_conv3dt.compiler.tap_layout import AXES, TapLayout
from tvm_conv3dt.memory import stored
from tvm_conv3dt.spec import Workload


def workload_of(out_channels, in_channels=3):
    return Workload.make(
        (1, 2, 2, 2, in_channels),
        (1, 2, 3, out_channels, in_channels),
        (1, 2, 4, 6, out_channels),
        (1, 2, 3),
    )


def pack(layout, filters):
    module = tvm.compile(
        tvm.IRModule({"pack": define_packing(layout, "pack")}), target={"kind": "llvm"}
    )
    bits = np.empty(layout.packed_shape, layout.packed_dtype)
    bits.view(np.uint8)[...] = 0xFF
    packed = tvm.runtime.tensor(bits)
    module["pack"](tvm.runtime.tensor(stored(filters)), packed)
    return packed.numpy()


def distinct(workload):
    return np.arange(1, np.prod(workload.filters) + 1, dtype=np.float32).reshape(workload.filters)


@pytest.mark.parametrize(("out_channels", "lanes"), [(8, 8), (9, 8), (15, 8), (33, 4), (3, 1)])
def test_channels_stand_in_blocks_of_which_the_last_starts_early(out_channels, lanes):
    workload = workload_of(out_channels)
    filters = distinct(workload)
    starts = [*range(0, out_channels - lanes, lanes), out_channels - lanes]
    expected = [np.moveaxis(filters[..., s : s + lanes, :], 3, 4) for s in starts]
    assert np.array_equal(pack(Layout(workload, lanes), filters), expected)


@pytest.mark.parametrize(("out_channels", "lanes"), [(1, 16), (3, 4), (7, 8)])
def test_channels_that_do_not_fill_a_block_are_followed_by_zeros(out_channels, lanes):
    workload = workload_of(out_channels)
    filters = distinct(workload)
    expected = np.zeros((1, 1, 2, 3, 3, lanes), np.float32)
    expected[0, ..., :out_channels] = np.moveaxis(filters, 3, 4)
    assert np.array_equal(pack(Layout(workload, lanes), filters), expected)


@pytest.mark.parametrize(("in_channels", "lanes"), [(8, 8), (17, 8), (11, 4), (35, 16)])
def test_input_channels_that_two_blocks_share_have_half_a_filter_in_each(in_channels, lanes):
    workload = workload_of(2, in_channels)
    filters = distinct(workload)
    starts = [*range(0, in_channels - lanes, lanes), in_channels - lanes]
    expected = np.stack([filters[..., s : s + lanes] for s in starts], axis=4)
    shared = len(starts) * lanes - in_channels
    if shared:
        expected[..., -2, -shared:] /= 2
        expected[..., -1, :shared] /= 2
    assert np.array_equal(pack(DotLayout(workload, lanes), filters), expected)


@pytest.mark.parametrize("in_channels", [16, 19, 33])
def test_pairs_of_input_channels_stand_together_and_halves_apart(in_channels):
    workload = workload_of(2, in_channels).recast(dtype="bfloat16")
    filters = distinct(workload).astype(ml_dtypes.bfloat16)
    starts = [*range(0, in_channels - 16, 16), in_channels - 16]
    expected = np.stack([filters[..., s : s + 16] for s in starts], axis=4)
    shared = len(starts) * 16 - in_channels
    if shared:
        expected[..., -2, -shared:] /= 2
        expected[..., -1, :shared] /= 2
    pairs = expected.reshape(*expected.shape[:-1], 8, 2)
    packed = pack(DotLayout(workload, 8, DOT_PAIRS), filters)
    assert np.array_equal(packed.view(ml_dtypes.bfloat16), pairs)
    halves = np.swapaxes(pairs, -1, -2).astype(np.float32)
    assert np.array_equal(pack(DotLayout(workload, 8, DOT_HALVES), filters), halves)


@pytest.mark.parametrize("in_channels", [1, 4, 7])
def test_pairs_for_output_channels_in_lanes_end_with_a_zero(in_channels):
    workload = workload_of(9, in_channels).recast(dtype="bfloat16")
    filters = distinct(workload).astype(ml_dtypes.bfloat16)
    even = np.zeros((*filters.shape[:-1], in_channels + in_channels % 2), filters.dtype)
    even[..., :in_channels] = filters
    pairs = even.reshape(*filters.shape[:-1], -1, 2)
    expected = np.stack([np.swapaxes(pairs[:, :, :, s : s + 8], 3, 4) for s in (0, 1)])
    packed = pack(PairLayout(workload, 8), filters)
    assert np.array_equal(packed.view(ml_dtypes.bfloat16), expected)


@pytest.mark.parametrize("in_channels", [1, 4, 7])
def test_blocks_are_two_channels_by_four_and_end_with_zeros(in_channels):
    workload = workload_of(6, in_channels).recast(dtype="bfloat16")
    filters = distinct(workload).astype(ml_dtypes.bfloat16)
    whole = np.zeros((*filters.shape[:-1], -(-in_channels // 4) * 4), filters.dtype)
    whole[..., :in_channels] = filters
    # Channels 0 to 3 and, since there are 6, 2 to 5: [..., half, e, kb, k], and kb goes first.
    vectors = [whole[..., s : s + 4, :].reshape(1, 2, 3, 2, 2, -1, 4) for s in (0, 2)]
    expected = np.stack([np.moveaxis(each, 5, 3) for each in vectors])
    packed = pack(MmlaLayout.of(workload), filters)
    assert np.array_equal(packed.view(ml_dtypes.bfloat16), expected)


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


def test_folded_phases_overlap_like_channels():
    # As above, of 3 phases with 2 channels each, in vectors of 4: the last block starts 2 channels early.
    workload = Workload.make((1, 1, 1, 4, 1), (1, 1, 3, 2, 1), (1, 1, 1, 12, 2), (1, 1, 3))
    filters = np.array([[1, 2], [3, 4], [5, 6]], np.float32).reshape(workload.filters)
    packed = pack(Layout(workload, 4, "fold-w"), filters)
    assert packed.reshape(2, 4).tolist() == [[1, 2, 3, 4], [3, 4, 5, 6]]


@pytest.mark.parametrize("layout", [Layout(workload_of(3), 8), DotLayout(workload_of(1, 8), 8)])
def test_packing_takes_filters_of_any_alignment(layout):
    function = define_packing(layout, "pack")
    alignments = {p.name: int(p.data_alignment) for p in function.params}
    assert alignments == {"filters": 4, "packed": 64}


@pytest.mark.parametrize("apart", AXES)
def test_filters_of_all_taps_are_rows_of_squares(apart):
    workload = workload_of(3, 40).recast(dtype="bfloat16")
    filters = (distinct(workload) % 251).astype(ml_dtypes.bfloat16)
    packed = pack(TapLayout.of(workload, apart), filters)
    rows = filters.reshape(-1, 40)  # [kh, kw, out], as there is one tap of depth
    expected = np.zeros((32, 64), ml_dtypes.bfloat16)
    expected[: len(rows), :40] = rows
    expected = np.moveaxis(expected.reshape(32, 2, 32), 1, 0)
    assert np.array_equal(packed[0, 0], stored(np.ascontiguousarray(expected)))
