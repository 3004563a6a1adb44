"""Do outputs of a row fill vectors of sums, and is it known where taps leave the input?"""

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt.compiler.dot_layout import DotLayout
from tvm_conv3dt.spec import Workload


def line(width, kernel, stride, output=None, channels=(16, 1), height=1, padding="SAME"):
    in_channels, out_channels = channels
    output = width * stride if output is None else output
    return Workload.make(
        (1, 1, height, width, in_channels),
        (1, 1, kernel, out_channels, in_channels),
        (1, 1, height, output, out_channels),
        (1, 1, stride),
        padding,
    )


@pytest.mark.parametrize(
    ("stride", "out_channels", "lanes", "outputs", "positions"),
    [
        (2, 1, 8, 8, 4),
        (2, 1, 16, 16, 8),
        (2, 3, 8, 6, 1),
        (2, 3, 16, 12, 2),
        (3, 1, 4, 3, 1),
        (3, 2, 16, 12, 2),
        (1, 1, 8, 8, 8),
        (4, 4, 16, 16, 1),
    ],
)
def test_vectors_of_sums_are_as_full_as_whole_positions_make_them(
    stride, out_channels, lanes, outputs, positions
):
    layout = DotLayout(line(9, 3, stride, channels=(16, out_channels)), lanes)
    assert (layout.outputs, layout.positions) == (outputs, positions)


@pytest.mark.parametrize(
    ("width", "output", "row_vectors", "exact"),
    [(8, 16, 2, True), (9, 18, 3, False), (9, 17, 3, False), (4, 8, 1, True), (4, 7, 1, False)],
)
def test_last_vector_may_reach_past_the_row(width, output, row_vectors, exact):
    layout = DotLayout(line(width, 3, 2, output), 8)
    assert (layout.row_vectors, layout.exact) == (row_vectors, exact)


def test_output_below_the_stride_has_one_position():
    layout = DotLayout(line(1, 3, 4, 2, channels=(16, 1)), 8)
    assert (layout.per_position, layout.positions, layout.row_vectors) == (2, 1, 1)


@pytest.mark.parametrize(
    ("in_channels", "lanes", "blocks"), [(16, 16, 1), (17, 16, 2), (24, 8, 3), (35, 4, 9)]
)
def test_blocks_cover_the_input_channels(in_channels, lanes, blocks):
    layout = DotLayout(line(4, 3, 2, channels=(in_channels, 3)), lanes)
    assert layout.in_blocks == blocks
    assert layout.packed_shape == (1, 1, 3, 3, blocks, lanes)


@pytest.mark.parametrize(
    ("height", "rows"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 8), (8, 8), (81, 84)]
)
def test_rows_are_rounded_up_to_whole_tasks(height, rows):
    assert DotLayout(line(4, 3, 2, height=height), 8).rows == rows


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        (line(4, 2, 2, padding="VALID"), (False, False)),  # a vector of 8 is the row
        (line(5, 2, 2, padding="VALID"), (False, True)),  # the second vector is cut short
        (line(4, 3, 2), (True, False)),
        (line(4, 4, 2), (True, True)),
        (line(5, 1, 1), (False, True)),
        (line(8, 3, 1), (True, True)),
    ],
)
def test_taps_leave_the_row_where_a_vector_reaches(workload, expected):
    assert DotLayout(workload, 8).leaves[2] == expected


def test_taps_leave_depth_and_height():
    workload = Workload.make((1, 2, 3, 4, 16), (2, 4, 1, 1, 16), (1, 4, 6, 4, 1), (2, 2, 1))
    assert DotLayout(workload, 4).leaves == ((False, False), (True, True), (False, False))


@pytest.mark.parametrize(
    ("workload", "lanes", "fits"),
    [
        (line(4, 3, 2), 16, True),
        (line(4, 3, 2, channels=(15, 1)), 16, False),  # a vector is not filled
        (line(4, 3, 2, channels=(16, 8)), 16, True),
        (line(4, 3, 2, channels=(16, 9)), 16, False),  # a position is more than a vector
        (line(4, 3, 4, channels=(16, 3)), 8, False),
        (line(1, 3, 4, 2, channels=(16, 3)), 8, True),  # of four phases there are two
        (line(4, 3, 2), 1, False),
    ],
)
def test_it_fits_where_inputs_fill_a_vector_and_outputs_do_not(workload, lanes, fits):
    assert DotLayout.fits(workload, lanes) is fits
