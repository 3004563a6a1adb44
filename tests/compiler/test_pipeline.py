"""Are offsets into arrays 64-bit, and blocks rewritten on the way?"""

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

import tvm_ffi
from tvm import ir, s_tir, te, tirx

from tvm_conv3dt.compiler import pipeline
from tvm_conv3dt.compiler.kernel import new_schedule
from tvm_conv3dt.compiler.spaces import llvm
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.target import target_of
from tvm_conv3dt.spec import Workload

# Widths and channels that leave tails, taps that lead out on every side.
WORKLOAD = Workload.make((1, 2, 3, 9, 17), (3, 3, 3, 3, 17), (1, 4, 6, 17, 3), 2, bias=True)
POINTS = [
    Point("phases", "rows", 1, tile_h=2, tile_w=4, task_h=2),
    Point("phases", "panels", 1, tile_w=4, task_h=3),
    Point("phases", "filters", 1, tile_w=4),
    Point("dot", "rows", 1, task_h=3),
    Point("dot", "columns-deep", 1),
]


def scheduled(point, device):
    layout = llvm.layout_of(WORKLOAD, device, point.formulation)
    sch = new_schedule(layout)
    llvm.apply(sch, layout, device, point.family, point.choose)
    return next(iter(sch.mod.functions.values()))


def lowered(function, device):
    """What is left when only host and device are to be told apart."""
    passes = tirx.get_tir_pipeline(pipeline.CPU)[0].passes
    names = [each.info.name for each in passes]
    before = ir.transform.Sequential(passes[: names.index("tirx.SplitHostDevice")])
    functions = tvm.IRModule({"main": function.with_attr("target", target_of(device))})
    return before(pipeline.place_buffers(functions))["main"]


def index_types(function):
    """Types of the indices, their lanes left out, of all accesses to each of the large arrays."""
    found = {}

    def visit(array, access):
        if array.name in ("x", "packed", "padded", "y"):
            types = {str(index.ty.dtype).split("x")[0] for index in access.indices}
            found.setdefault(array.name, set()).update(types)

    walks = [
        (ir.TensorLoad, lambda load: visit(load.source, load)),
        (tirx.BufferStore, lambda store: visit(store.buffer, store)),
    ]
    tvm_ffi.structural_walk(function, walks)
    return found


def cut_short(function):
    """Names of the blocks of register tiles that run under a condition."""
    found = []

    def visit(realize):
        name = realize.block.name_hint
        if name != "padded" and not isinstance(realize.predicate, tirx.IntImm):
            found.append(name)

    tvm_ffi.structural_walk(function, (s_tir.SBlockRealize, visit))
    return found


@pytest.mark.parametrize("point", POINTS, ids=lambda p: f"{p.formulation}-{p.order}")
def test_offsets_are_64_bit(point, host):
    found = index_types(lowered(scheduled(point, host), host))
    assert found.keys() >= {"x", "packed", "y"}
    assert set().union(*found.values()) == {"int64"}


@pytest.mark.parametrize("point", POINTS, ids=lambda p: f"{p.formulation}-{p.order}")
def test_no_tile_is_cut_short(point, host):
    function = scheduled(point, host)
    assert point.formulation == "dot" or "accumulator_update" in cut_short(function)
    assert cut_short(pipeline.lower_blocks(function)) == []


@pytest.mark.parametrize("point", POINTS, ids=lambda p: f"{p.formulation}-{p.order}")
def test_every_point_is_exact(point, host, inexact):
    assert inexact(WORKLOAD, host, [point]) == []


def test_elements_past_two_to_the_31_are_reached(host):
    """Ends of the rows of an array that is larger, of which nothing else is touched."""
    rows, columns = 3, 1 << 30
    x = te.placeholder((rows, columns), "float32", "x")
    y = te.compute((rows, 2), lambda r, i: x[r, i * (columns - 1)], "y")
    functions = tvm.IRModule({"main": te.create_prim_func([x, y])})
    module = tvm.compile(
        pipeline.place_buffers(functions), target=target_of(host), tir_pipeline=pipeline.CPU
    )
    large = np.zeros((rows, columns), np.float32)
    large[:, 0], large[:, -1] = [1, 2, 3], [4, 5, 6]
    found = tvm.runtime.tensor(np.full((rows, 2), np.nan, np.float32))
    module["main"](tvm_ffi.from_dlpack(large), found)
    assert np.array_equal(found.numpy(), large[:, [0, -1]])


@pytest.mark.parametrize(
    "point",
    [Point("dot", "rows", 1), Point("phases", "panels", 1, tile_w=4)],
    ids=lambda p: p.formulation,
)
def test_input_past_four_gigabytes_is_read(point, host, built):
    """All of it is zero, which takes no memory, but for its first and its last position."""
    workload = Workload.make((1, 2, 1024, 513, 1024), (1, 1, 1, 1, 1024), (1, 2, 1024, 513, 1), 1)
    kernel = built(workload, host, point)
    x = np.zeros(workload.input, np.float32)
    x[0, 0, 0, 0], x[0, -1, -1, -1] = 2, 3
    packed = tvm.runtime.empty(kernel.packed_shape, "float32")
    kernel.pack(tvm.runtime.tensor(np.ones(workload.filters, np.float32)), packed)
    y = tvm.runtime.tensor(np.full(workload.output_shape, np.nan, np.float32))
    kernel.run(tvm_ffi.from_dlpack(x), packed, y)
    found = y.numpy().ravel()
    assert (found[0], found[-1], np.count_nonzero(found)) == (2 * 1024, 3 * 1024, 2)
