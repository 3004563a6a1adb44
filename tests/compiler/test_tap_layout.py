"""Do tiles and tasks cover a workload's filters and positions, and does a name say all of it?"""

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt.compiler.tap_layout import AXES, TapLayout
from tvm_conv3dt.spec import Workload

from .geometries import COMMON
from .geometries import make as of_geometry


def make(size=(2, 3, 20), channels=(32, 1), kernel=3, stride=2, **more):
    in_channels, out_channels = channels
    return Workload.make(
        (1, *size, in_channels),
        (kernel, kernel, kernel, out_channels, in_channels),
        (1, *(each * stride for each in size), out_channels),
        stride,
        **{"dtype": "bfloat16", **more},
    )


@pytest.mark.parametrize("apart", AXES)
def test_name_says_it_all(apart):
    made = TapLayout.of(make(), apart, 2, 3)
    assert TapLayout.parse(made.workload, made.name) == made


@pytest.mark.parametrize("name", ["amx-taps-2x3", "amx-taps-w-2x3", "amx-taps-hw-2", "phases"])
def test_another_name_is_refused(name):
    with pytest.raises(ValueError, match="none of tasks"):
        TapLayout.parse(make(), name)


@pytest.mark.parametrize(
    ("apart", "kernel", "channels", "tile"),
    [
        ("hw", 3, 1, (9, 1, 1, 4)),
        ("hw", 5, 1, (25, 1, 2, 2)),
        ("hw", 9, 1, (81, 1, 6, 1)),
        ("hw", 4, 8, (128, 2, 4, 1)),
        ("dhw", 3, 1, (27, 1, 2, 2)),
        ("dhw", 4, 2, (128, 2, 4, 1)),
    ],
)
def test_filters_fill_tiles(apart, kernel, channels, tile):
    made = TapLayout.of(make(kernel=kernel, channels=(32, channels)), apart)
    assert (made.filters, made.filter_blocks, made.squares, made.column_squares) == tile


@pytest.mark.parametrize(
    ("apart", "shape"), [("hw", (1, 3, 2, 16, 32)), ("dhw", (1, 1, 2, 32, 32))]
)
def test_packed_filters_are_whole_squares(apart, shape):
    assert TapLayout.of(make(channels=(35, 1)), apart).packed_shape == shape


def test_last_task_reaches_past_the_end():
    made = TapLayout.of(make((5, 7, 20)), "hw", 2, 4)
    assert (made.tasks, made.rows) == ((3, 2), 8)


def test_rows_are_whole_squares_with_what_the_taps_read():
    # Of kernel 3 and stride 2 one phase of each axis reads the position before, too.
    found = [TapLayout.of(make((2, 3, w)), "hw").pitch for w in (15, 16, 31)]
    assert found == [16, 32, 32]


@pytest.mark.parametrize("apart", AXES)
@pytest.mark.parametrize("name", COMMON)
def test_no_tap_of_any_lane_leaves_what_a_task_makes(name, apart):
    workload = of_geometry(COMMON[name], 1, 8, 1).recast(dtype="bfloat16")
    made = TapLayout.of(workload, apart, 1, 2)
    places = []
    for axis, start, count in zip(
        made.axes, made.starts, (1, made.task_rows, made.row_vectors * 16), strict=True
    ):
        read = [
            axis.first_input(phase) - j * axis.input_step - start
            for phase in range(axis.phases)
            for j in range(axis.phase_taps(phase))
        ]
        places.append((min(read, default=0), max(read, default=0) + count - 1))
    (first_plane, last_plane), (first_row, last_row), (first, last) = places
    assert min(first_plane, first_row, first) >= 0
    assert last_plane <= made.spans[0]
    assert last_row * made.pitch + last < made.tiles * made.column_squares * 16


@pytest.mark.parametrize(
    ("workload", "choices"),
    [
        (make(), ["dhw", "hw"]),
        (make(kernel=9), ["hw"]),
        (make(channels=(32, 9)), []),  # 18 outputs of a position
        (make(dtype="float32"), []),
        (make().recast(data_format="NCDHW"), []),
        (make(dtype="float32", precision="bfloat16"), ["dhw", "hw"]),
    ],
)
def test_it_is_for_few_outputs_and_few_taps(workload, choices):
    assert TapLayout.choices(workload) == choices
