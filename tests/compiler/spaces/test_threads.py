"""How many neighbours does a thread of a GPU bring or store at once?"""

from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt.compiler.gemm_layout import GemmLayout, Tile
from tvm_conv3dt.compiler.spaces.threads import input_vector, store_vector
from tvm_conv3dt.spec import Workload

UP = Workload.make((1, 4, 4, 4, 16), (2, 2, 2, 24, 16), (1, 8, 8, 8, 24), 2)


def layout_of(
    workload=UP, channels=(16, 24), depth=16, folding="phases", matrix_units=False, **more
):
    in_channels, out_channels = channels
    workload = replace(
        workload,
        input=(*workload.input[:4], in_channels),
        filters=(*workload.kernel, out_channels, in_channels),
        output_shape=(*workload.output_shape[:4], out_channels),
        **more,
    )
    return GemmLayout.of(workload, Tile(32, 16, depth), folding, matrix_units)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, 4),
        ({"dtype": "float64"}, 2),
        ({"dtype": "float16"}, 4),
        ({"dtype": "float16", "matrix_units": True}, 8),
        ({"dtype": "bfloat16"}, 1),
        ({"channels": (18, 24)}, 1),
        ({"channels": (20, 24), "dtype": "float16", "matrix_units": True}, 1),
        ({"channels": (1, 24)}, 1),
    ],
)
def test_input_comes_in_vectors_where_all_are_whole(more, expected):
    assert input_vector(layout_of(**more)) == expected


def test_input_with_channels_first_comes_one_by_one():
    layout = GemmLayout.of(UP.recast("NCDHW"), Tile(32, 16, 16))
    assert input_vector(layout) == 1


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, 4),
        ({"channels": (16, 18)}, 2),
        ({"channels": (16, 17)}, 1),
        ({"channels": (16, 12)}, 1),  # less than a tile
        ({"folding": "fold-w"}, 1),
        ({"dtype": "float16"}, 4),
        ({"dtype": "bfloat16"}, 1),
        ({"activation": "relu"}, 4),
    ],
)
def test_results_are_stored_in_vectors_where_all_are_whole(more, expected):
    assert store_vector(layout_of(**more), 4) == expected


def test_no_more_are_stored_than_there_are():
    assert store_vector(layout_of(), 2) == 2


def test_results_with_channels_first_are_stored_one_by_one():
    assert store_vector(GemmLayout.of(UP.recast("NCDHW"), Tile(32, 16, 16)), 4) == 1
