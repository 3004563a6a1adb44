"""Do loops over taps take as many turns as each phase has taps?"""

import pytest

pytest.importorskip("tvm")

import tvm_ffi
from tvm import ir, s_tir, tirx

from tvm_conv3dt.compiler.expressions import at
from tvm_conv3dt.compiler.gemm_layout import GemmLayout, Tile
from tvm_conv3dt.compiler.kernel import new_schedule
from tvm_conv3dt.compiler.tap_loops import mark_tap_loops, shorten_tap_loops
from tvm_conv3dt.spec import Workload

# What is special about the axis -> input, output, kernel, stride, dilation, padding.
AXES = {
    "kernel above stride": (4, 8, 3, 2, 1, 0),
    "kernel above stride, cut off": (4, 8, 5, 2, 1, 1),
    "kernel below stride": (3, 12, 2, 4, 1, 1),
    "one tap": (3, 6, 1, 2, 1, 0),
    "dilation prime to stride": (5, 10, 3, 2, 3, 3),
    "dilation and stride share": (5, 20, 3, 4, 6, 4),
    "dilation is stride": (4, 12, 4, 3, 3, 4),
    "fewer outputs than the stride": (2, 3, 3, 4, 1, 2),
}
UNIFORM = (4, 8, 4, 2, 1, 1)


def layout_of(axis, folding="phases"):
    size, output, kernel, stride, dilation, pad = axis
    workload = Workload.make(
        (1, 1, 1, size, 8),
        (1, 1, kernel, 4, 8),
        (1, 1, 1, output, 4),
        (1, 1, stride),
        (0, 0, pad),
        dilations=(1, 1, dilation),
    )
    return GemmLayout.of(workload, Tile(4, 4, 8), folding)


def products(layout):
    """The loops around the products of the unscheduled operator, by name, after those over taps have their ends."""
    sch = new_schedule(layout)
    *_, jd, jh, jw, _ = sch.get_loops(sch.get_sblock("accumulator"))
    mark_tap_loops(sch, (jd, jh, jw), layout)
    function = shorten_tap_loops(next(iter(sch.mod.functions.values())))
    loops = {}

    def visit(loop):
        blocks = []
        tvm_ffi.structural_walk(loop.body, (s_tir.SBlock, blocks.append))
        if [each.name_hint for each in blocks] == ["accumulator"]:
            loops[str(loop.loop_var.name)] = loop

    tvm_ffi.structural_walk(function, (tirx.For, visit))
    return loops


@pytest.mark.parametrize("name", AXES)
def test_each_phase_takes_its_own_number_of_turns(name):
    layout = layout_of(AXES[name])
    axis, loops = layout.axes[2], products(layout)
    phase = loops["rw"].loop_var
    found = [int(at(loops["jw"].extent, {phase: r})) for r in range(axis.phases)]
    assert found == [axis.phase_taps(r) for r in range(axis.phases)]
    assert len(set(found)) > 1


@pytest.mark.parametrize("name", ["kernel below stride", "one tap"])
def test_number_of_an_only_tap_is_known(name):
    # An array of registers that is indexed by it would lie in memory.
    loop = products(layout_of(AXES[name]))["jw"]
    used = []
    tvm_ffi.structural_walk(loop.body, (ir.Var, used.append))
    assert not [each for each in used if each.same_as(loop.loop_var)]


def test_loop_over_taps_that_all_phases_have_is_left():
    loop = products(layout_of(UNIFORM))["jw"]
    assert int(loop.extent) == 2


def test_loop_over_taps_of_folded_phases_is_left():
    layout = layout_of(AXES["kernel above stride"], "fold-w")
    assert int(products(layout)["jw"].extent) == layout.taps[2]


def test_no_mark_is_left():
    loops = products(layout_of(AXES["kernel above stride"]))
    assert not [key for loop in loops.values() for key in loop.annotations]
