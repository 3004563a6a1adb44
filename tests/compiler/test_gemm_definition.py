"""Does the definition by tiles, before anything is scheduled, say what the operator is?"""

from dataclasses import replace

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from cuda_on_cpu.emulator import Emulated

from tvm_conv3dt import device as devices
from tvm_conv3dt.compiler.absent_taps import skip_absent_taps
from tvm_conv3dt.compiler.cuda_pipeline import CUDA
from tvm_conv3dt.compiler.definition import define
from tvm_conv3dt.compiler.gemm_layout import GemmLayout, Tile
from tvm_conv3dt.compiler.kernel import new_schedule
from tvm_conv3dt.compiler.layout import PHASES
from tvm_conv3dt.compiler.packing import define_packing
from tvm_conv3dt.compiler.tap_loops import mark_tap_loops, shorten_tap_loops
from tvm_conv3dt.compiler.target import target_of
from tvm_conv3dt.memory import stored
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import Workload

from .geometries import COMMON, make

H100 = devices.get("cuda-sm90")
UP = Workload.make((1, 2, 3, 4, 9), (3, 3, 3, 5, 9), (1, 4, 6, 8, 5), 2)


def computed(layout, host, data):
    """What the operator, with no tile scheduled, makes of `data` on this machine, over NaN."""
    sch = new_schedule(layout)
    accumulator = sch.get_sblock("accumulator")
    *_, jd, jh, jw, _ = sch.get_loops(accumulator)
    mark_tap_loops(sch, (jd, jh, jw), layout)
    sch.decompose_reduction(accumulator, jd)  # a phase without taps is zero, too
    (function,) = sch.mod.functions.values()
    function = skip_absent_taps(shorten_tap_loops(function)).with_attr("global_symbol", "main")
    module = tvm.compile(tvm.IRModule({"main": function}), target=target_of(host))
    x, filters, bias = data
    packed = np.full(layout.packed_shape, np.nan, layout.packed_dtype)
    packing = Emulated.of(define_packing(layout, "pack"), target_of(H100), CUDA)
    packing["pack"](stored(filters), packed)
    y = tvm.runtime.tensor(np.full(layout.workload.output_shape, np.nan, x.dtype))
    constants = [packed] if bias is None else [packed, bias]
    module["main"](*map(tvm.runtime.tensor, [x, *constants]), y)
    return y.numpy()


@pytest.mark.parametrize("folding", [PHASES, "all"])
@pytest.mark.parametrize("geometry", COMMON)
def test_unscheduled_definition_is_exact(geometry, folding, host):
    workload = make(COMMON[geometry], 2, 9, 5)
    axes = [n for n, axis in zip("dhw", workload.phase_axes, strict=True) if axis.phases > 1]
    if folding != PHASES:
        if not axes:
            pytest.skip("it has one phase")
        folding = f"fold-{''.join(axes)}"
    layout = GemmLayout.of(workload, Tile(4, 4, 8), folding)
    data = integer_data(workload, seed=0)
    assert np.array_equal(computed(layout, host, data), reference(workload, *data))


@pytest.mark.parametrize(
    "tile",
    [Tile(1, 1, 1), Tile(32, 8, 8), Tile(16, 16, 16), Tile(4, 2, 4, 3), Tile(64, 4, 2, 5)],
    ids=str,
)
def test_result_does_not_depend_on_the_tile(tile, host):
    layout = GemmLayout.of(UP, tile)
    data = integer_data(UP, seed=0)
    assert np.array_equal(computed(layout, host, data), reference(UP, *data))


def test_tensor_cores_are_given_float16_and_add_in_float32(host):
    workload = replace(UP, dtype="float16", bias=True, activation="leaky_relu")
    layout = GemmLayout.of(workload, Tile(16, 16, 16), matrix_units=True)
    data = integer_data(workload, seed=0)
    expected = reference(workload, *data).astype(np.float16)
    assert np.array_equal(computed(layout, host, data), expected)


def test_filters_that_are_not_there_are_not_multiplied(host):
    # An infinity times a zero, in the place of a tap that a folded phase lacks, would be NaN.
    x, filters, _ = integer_data(UP, seed=0)
    x[0, 1, 1, 2, 3] = np.inf
    layout = GemmLayout.of(UP, Tile(32, 8, 8), "fold-dhw")
    found = computed(layout, host, (x, filters, None))
    assert np.array_equal(found, reference(UP, x, filters))


def test_no_sum_reads_what_no_input_reaches():
    workload = Workload.make(
        (1, 1, 1, 1, 4), (1, 1, 1, 3, 4), (1, 1, 1, 2, 3), 3, (0, 0, 1), dilations=(1, 1, 6)
    )
    assert not workload.reached
    for folding in (PHASES, "fold-w"):
        function = define(GemmLayout.of(workload, Tile(4, 4, 8), folding))
        assert "x[" not in str(function)


def test_arguments_come_in_order_with_their_shapes():
    function = define(GemmLayout.of(replace(UP, bias=True), Tile(32, 8, 8, 2)))
    found = {p.name: [int(size) for size in p.shape] for p in function.params}
    assert list(found.items()) == [
        ("x", [1, 2, 3, 4, 9]),
        ("packed", [1, 3, 3, 3, 16, 8]),
        ("bias", [5]),
        ("y", [1, 4, 6, 8, 5]),
    ]
