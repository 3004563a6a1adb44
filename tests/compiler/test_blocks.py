"""Do blocks of channels cover all of them, each a whole one?"""

import pytest

pytest.importorskip("tvm")

from tvm import sym, tirx

from tvm_conv3dt.compiler.blocks import block_start


def starts(lanes, channels):
    blocks = -(-channels // lanes)
    start = [block_start(tirx.const(b, "int32"), lanes, channels) for b in range(blocks)]
    return [int(sym.Analyzer().simplify(each)) for each in start]


@pytest.mark.parametrize(
    ("lanes", "channels", "expected"),
    [
        (8, 8, [0]),
        (8, 24, [0, 8, 16]),
        (8, 9, [0, 1]),
        (8, 15, [0, 7]),
        (16, 35, [0, 16, 19]),
        (4, 515, [*range(0, 512, 4), 511]),
    ],
)
def test_last_block_starts_early_enough_to_be_whole(lanes, channels, expected):
    assert starts(lanes, channels) == expected


@pytest.mark.parametrize(("lanes", "channels"), [(8, 1), (8, 7), (16, 15)])
def test_fewer_channels_than_lanes_are_one_block_from_the_first(lanes, channels):
    assert starts(lanes, channels) == [0]


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_no_channel_is_left_out(lanes):
    for channels in range(lanes, 5 * lanes + 1):
        covered = {start + lane for start in starts(lanes, channels) for lane in range(lanes)}
        assert covered == set(range(channels))


def test_start_is_an_expression_of_a_variable():
    block = tirx.Var("block", "int32")
    assert str(block_start(block, 8, 24)) == "block * 8"
    assert str(block_start(block, 8, 20)) == "T.min(block * 8, 12)"
