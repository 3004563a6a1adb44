"""Do squares cover a workload's positions and channels, and does a name say all of it?"""

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt.compiler.split_layout import SplitLayout
from tvm_conv3dt.compiler.tile_layout import TileLayout
from tvm_conv3dt.spec import Workload

from .geometries import COMMON, make


def layout(
    size, channels, kernel=3, stride=2, squares=(1, 1), folding="phases", padding="SAME", **more
):
    in_channels, out_channels = channels
    output = [each * stride for each in size]
    workload = Workload.make(
        (1, *size, in_channels),
        (kernel, kernel, kernel, out_channels, in_channels),
        (1, *output, out_channels),
        stride,
        padding,
        dtype="bfloat16",
        **more,
    )
    return TileLayout.of(workload, squares, folding)


@pytest.mark.parametrize("folding", ["phases", "fold-w", "fold-dhw"])
@pytest.mark.parametrize("squares", [(1, 1), (2, 2), (1, 5), (4, 1)])
def test_name_says_it_all(squares, folding):
    made = layout((2, 3, 4), (32, 32), kernel=2, squares=squares, folding=folding)
    assert TileLayout.parse(made.workload, made.name) == made


@pytest.mark.parametrize("name", ["amx-2x2", "amx-2x2x2-phases", "amx-2x2-dot", "phases"])
def test_another_name_is_refused(name):
    with pytest.raises(ValueError, match="none of matrix units"):
        TileLayout.parse(layout((1, 1, 1), (1, 1)).workload, name)


def test_row_without_zeros_around_is_as_long_as_the_input():
    made = layout((2, 3, 5), (32, 32), kernel=2, padding="VALID")
    assert (made.pitch, made.flat, made.reach, made.plane) == (5, 15, 0, 16)


@pytest.mark.parametrize(
    ("width", "channels", "pitch"), [(46, 8, 48), (46, 17, 47), (44, 8, 45), (47, 16, 48)]
)
def test_rows_are_whole_squares_where_zeros_and_channels_are_few(width, channels, pitch):
    assert layout((2, 3, width), (32, channels)).pitch == pitch


def test_positions_run_on_through_the_zeros_after_a_row():
    # Of kernel 3 and stride 2 one phase of each axis reads one position more.
    made = layout((2, 3, 5), (32, 32))
    assert (made.pitch, made.flat, made.reach, made.plane) == (6, 17, 7, 39)


def test_tiles_are_of_rows_where_channels_come_first():
    made = layout((2, 3, 20), (32, 32))
    first = TileLayout.of(made.workload.recast(data_format="NCDHW"), (1, 1))
    assert (made.by_rows, made.tiles) == (False, 4)
    assert (first.by_rows, first.row_tiles, first.tiles) == (True, 2, 6)
    # The last tile of the last row, and what its taps read.
    assert first.plane == 2 * 21 + 2 * 16 + first.reach


def test_tiles_of_a_large_plane_can_be_shared_by_tasks():
    assert [layout((1, 1, w), (1, 1), kernel=2).tiles for w in (16, 17, 128, 129, 300)] == [
        1,
        2,
        8,
        12,
        20,
    ]


def test_packed_filters_are_whole_squares():
    made = layout((1, 1, 1), (35, 40), squares=(1, 2))
    assert made.packed_shape == (2, 3, 3, 3, 2, 2, 16, 16, 2)
    assert made.packed_dtype == "uint16"


@pytest.mark.parametrize(("kind", "dtype"), [(TileLayout, "bfloat16"), (SplitLayout, "float32")])
@pytest.mark.parametrize("name", COMMON)
def test_no_tap_of_any_position_leaves_the_plane(name, kind, dtype):
    workload = make(COMMON[name], 1, 8, 8).recast(dtype=dtype)
    made = kind.of(workload, (2, 1))
    _, height, width = made.axes
    (_, (rows, _)), (columns, _) = made.margins, made.halo
    read = [
        (
            r.first_input(p) - j * r.input_step + rows,
            c.first_input(q) - k * c.input_step + columns,
        )
        for r, c in [(height, width)]
        for p in range(r.phases)
        for j in range(r.phase_taps(p))
        for q in range(c.phases)
        for k in range(c.phase_taps(q))
    ]
    assert all(row >= 0 and column >= 0 for row, column in read)
    last = made.tiles * made.positions - 1
    assert max(row * made.pitch + column for row, column in read) + last < made.plane


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"dtype": "float32"}, False),
        ({"dtype": "float32", "precision": "bfloat16"}, True),
        ({"dtype": "float16"}, False),
        ({"data_format": "NCDHW"}, True),
    ],
)
def test_it_is_for_products_of_bfloat16(change, fits):
    assert TileLayout.fits(layout((2, 2, 2), (4, 4)).workload.recast(**change)) == fits
