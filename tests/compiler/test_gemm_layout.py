"""Is a tile of a matrix product what its name says, and do packed filters fill it?"""

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt.compiler.gemm_layout import GemmLayout, Tile
from tvm_conv3dt.spec import Workload

# 2 x 3 x 4 positions of each of 8 phases, 20 input channels, 5 output channels.
UP = Workload.make([1, 2, 3, 4, 20], [2, 2, 2, 5, 20], [1, 4, 6, 8, 5], 2)


@pytest.mark.parametrize("matrix_units", [False, True])
@pytest.mark.parametrize("folding", ["phases", "fold-w", "fold-dhw"])
def test_name_leads_back_to_the_layout(folding, matrix_units):
    layout = GemmLayout.of(UP, Tile(64, 16, 16, 2), folding, matrix_units)
    assert GemmLayout.parse(UP, layout.name) == layout


@pytest.mark.parametrize("name", ["phases", "gemm-64x16x16-1", "gemm-axbxc-1-phases", ""])
def test_name_of_another_formulation_is_refused(name):
    with pytest.raises(ValueError, match="is none of GPUs"):
        GemmLayout.parse(UP, name)


def test_positions_of_a_phase_fill_tiles():
    layout = GemmLayout.of(UP, Tile(16, 8, 8))
    assert (layout.volume, layout.tiles, layout.padded_volume) == (24, 2, 32)
    assert layout.blocks_of_threads == 2 * 8


def test_folded_phases_are_channels():
    layout = GemmLayout.of(UP, Tile(32, 16, 8), "fold-dhw")
    assert (layout.channels, layout.blocks, layout.phases) == (40, 3, (1, 1, 1))


@pytest.mark.parametrize(("parts", "channels"), [(1, 24), (2, 32), (3, 24)])
def test_packed_filters_have_zeros_for_input_channels_that_fill_up_parts(parts, channels):
    layout = GemmLayout.of(UP, Tile(32, 8, 8, parts))
    assert layout.packed_shape == (1, 2, 2, 2, channels, 8)
    assert layout.part_channels * parts == channels


def test_filters_for_tensor_cores_stay_float16():
    half = UP.recast(dtype="float16")
    assert GemmLayout.of(half, Tile(16, 16, 16), matrix_units=True).packed_dtype == "float16"
    assert GemmLayout.of(half, Tile(16, 16, 16)).packed_dtype == "float32"
