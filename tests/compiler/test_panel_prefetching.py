"""Is all of the next panel of filters asked for, once, by the tiles of one?"""

from itertools import product

import pytest

tvm = pytest.importorskip("tvm")

from tvm import tirx

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.amx_instructions import LOAD, MULTIPLY, instruction
from tvm_conv3dt.compiler.expressions import at
from tvm_conv3dt.compiler.panel_prefetching import asking
from tvm_conv3dt.compiler.spaces.point import Point

from .geometries import evenly

SQUARE = 512  # elements
PANELS, STEPS, SQUARES = 3, 4, 6


def places(turns):
    """What a task asks for: by panel and step, places in the filters, of all tiles."""
    packed = tirx.decl_buffer((PANELS * STEPS * SQUARES * SQUARE,), "uint16", "packed_1")
    panel, step, tile = (tirx.Var(name, "int32") for name in ("panel", "step", "tile"))
    around = [
        tirx.For(each, 0, extent, tirx.ForKind.SERIAL, tirx.Evaluate(0))
        for each, extent in ((panel, PANELS), (tile, turns))
    ]
    start = (panel * STEPS + step) * SQUARES * SQUARE
    steps = []
    for square in reversed(range(SQUARES)):
        address = tirx.address_of(tirx.BufferLoad(packed, [start + square * SQUARE]))
        steps.append(tirx.Evaluate(instruction(LOAD, 4, address, tirx.const(64, "int64"))))
        steps.append(tirx.Evaluate(instruction(MULTIPLY, 0, 4, 4)))
    made = asking(around, steps, "packed")
    asked = [each for each in made if each not in steps]
    assert len(made) == len(steps) + len(asked)
    found = {}
    for p, k, t in product(range(PANELS), range(STEPS), range(turns)):
        for each in asked:
            (index,) = each.value.args[1].args[0].indices
            found.setdefault((p, k), []).append(int(at(index, {panel: p, step: k, tile: t})))
    return found


@pytest.mark.parametrize("turns", [1, 2, 5, 7, 300])
def test_tiles_share_the_next_panel(turns):
    for (panel, step), found in places(turns).items():
        first = ((panel + 1) % PANELS * STEPS + step) * SQUARES * SQUARE
        assert sorted(set(found)) == list(range(first, first + SQUARES * SQUARE, 32))


def prefetches(built, channels):
    workload = evenly((channels, 64), kernel=2, width=40)
    point = Point("amx-split-2x2-phases", "panels", 2, 2, task_h=2)
    kernel = built(workload, catalogue.get("x86-64-v4-amx"), point)
    return kernel.module.mod.inspect_source("ll").count("call void @llvm.prefetch")


def test_only_filters_that_do_not_stay_near_are_asked_for(built):
    assert prefetches(built, 64) == 0
    assert prefetches(built, 512) > 0
