"""Are rows divided into pairs of positions that leave none out, and copied as far as taps read?"""

import pytest

from tvm_conv3dt.compiler.mmla_layout import MmlaLayout
from tvm_conv3dt.spec import Workload


def layout_of(width, channels=(5, 6), kernel=3, stride=2, **more):
    in_channels, out_channels = channels
    workload = Workload.make(
        (1, 2, 2, width, in_channels),
        (kernel, kernel, kernel, out_channels, in_channels),
        (1, 2 * stride, 2 * stride, width * stride, out_channels),
        stride,
        dtype="bfloat16",
        **more,
    )
    return MmlaLayout.of(workload)


@pytest.mark.parametrize("width", [1, 2, 3, 8, 9])
def test_both_halves_are_the_whole_row(width):
    layout = layout_of(width)
    halves = [range(start, start + layout.columns) for start in (0, layout.partner)]
    assert sorted({*halves[0], *halves[1]}) == list(range(width))


@pytest.mark.parametrize(
    ("width", "kernel", "length"), [(8, 2, 4), (8, 3, 5), (9, 3, 6), (1, 2, 1), (8, 5, 7)]
)
def test_copied_rows_go_as_far_as_taps_read(width, kernel, length):
    # Taps that a phase does not have count too, as in `Axis.reads`: of 5 taps one phase has 3, the other 2.
    assert layout_of(width, kernel=kernel).row_length == length


@pytest.mark.parametrize(
    ("channels", "shape"),
    [
        ((8, 8), (2, 3, 3, 3, 2, 2, 2, 4)),
        ((5, 6), (2, 3, 3, 3, 2, 2, 2, 4)),
        ((1, 1), (1, 3, 3, 3, 1, 2, 2, 4)),
    ],
)
def test_packed_filters_are_blocks_of_two_channels_by_four(channels, shape):
    assert layout_of(4, channels).packed_shape == shape


def test_rows_of_zeros_are_around_the_input():
    # SAME, 3 taps, stride 2: one input before the first output, none after the last.
    layout = layout_of(4)
    assert layout.margins == ((1, 0), (1, 0))
    assert layout.row_sizes == (3, 3)


@pytest.mark.parametrize(
    ("changed", "fits"),
    [
        ({}, True),
        ({"dtype": "float32"}, False),
        ({"dtype": "float16"}, False),
        ({"dtype": "float32", "precision": "bfloat16"}, True),
        ({"data_format": "NCDHW"}, False),
    ],
)
def test_only_products_of_bfloat16_with_channels_last_fit(changed, fits):
    assert MmlaLayout.fits(layout_of(4).workload.recast(**changed)) is fits
