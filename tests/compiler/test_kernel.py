"""Is a compiled workload right, whatever its arrays, and is what cannot be compiled refused?"""

from dataclasses import replace

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")
import tvm_ffi

from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.layout import PHASES
from tvm_conv3dt.compiler.schedule import default_schedule
from tvm_conv3dt.compiler.spaces import llvm
from tvm_conv3dt.compiler.spaces.point import Family
from tvm_conv3dt.errors import CompileError
from tvm_conv3dt.measure.verify import verify
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import ACTIVATIONS, DATA_FORMATS, DTYPES, Workload


def compiled(workload, device):
    default = default_schedule(workload, device)
    return kernel.compile_kernel(default.layout(device), device, default.apply(device))


def compiled_in_order(workload, device, order):
    layout = llvm.layout_of(workload, device, PHASES)
    sch = kernel.new_schedule(layout)
    llvm.apply(sch, layout, device, Family(order, 1), lambda name, candidates: 0)
    return kernel.compile_kernel(layout, device, sch)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_bias_and_activation(activation, dtype, data_format, host, call, small):
    workload = replace(small, bias=True, activation=activation).recast(data_format, dtype)
    built = compiled(workload, host)

    def run(x, filters, bias, out):
        out[...] = call(built, x, filters, bias)

    checks = verify(workload, run, seeds=[0]).checks
    assert [(check.data, check.status) for check in checks] == [
        ("integers", "PASSED"),
        ("random", "PASSED"),
    ]


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (None, [np.nan, np.inf, -np.inf]),
        ("relu", [np.nan, np.inf, 0]),
        ("leaky_relu", [np.nan, np.inf, -np.inf]),
        ("elu", [np.nan, np.inf, -1]),
        ("tanh", [np.nan, 1, -1]),
        ("sigmoid", [np.nan, 1, 0]),
    ],
)
def test_values_that_are_not_finite_pass(activation, expected, host, call):
    workload = Workload.make(
        (1, 1, 1, 3, 1), (1, 1, 1, 1, 1), (1, 1, 1, 3, 1), 1, activation=activation
    )
    x = np.array([np.nan, np.inf, -np.inf], np.float32).reshape(workload.input)
    found = call(compiled(workload, host), x, np.ones(workload.filters, np.float32)).ravel()
    # A sigmoid may end in the smallest numbers instead of zero.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-37)


def test_arrays_need_only_be_aligned_to_their_elements(host):
    workload = Workload.make((1, 3, 3, 8, 8), (2, 2, 2, 16, 8), (1, 6, 6, 16, 16), 2, bias=True)
    x, filters, bias = integer_data(workload, seed=0)
    built = compiled(workload, host)

    def unaligned(values):
        room = np.empty(values.size + 17, np.float32)
        start = next(i for i in range(17) if (room.ctypes.data + 4 * i) % 64 == 4)
        view = room[start : start + values.size].reshape(values.shape)
        view[...] = values
        return tvm_ffi.from_dlpack(view), view

    packed = tvm.runtime.empty(built.packed_shape, "float32")
    built.pack(unaligned(filters)[0], packed)
    y, y_view = unaligned(np.full(workload.output_shape, np.nan))
    built.run(unaligned(x)[0], packed, unaligned(bias)[0], y)
    assert np.array_equal(y_view, reference(workload, x, filters, bias))


def test_library_holds_both_functions(host, small, tmp_path):
    kernel.export(compiled(small, host), tmp_path / "small.so")
    library = tvm_ffi.load_module(str(tmp_path / "small.so"))
    assert library[small.id] is not None
    assert library[kernel.pack_symbol(small)] is not None


def test_workspace_is_nothing_where_nothing_is_padded(host):
    workload = Workload.make((1, 2, 2, 4, 3), (2, 2, 2, 8, 3), (1, 4, 4, 8, 8), 2)
    assert compiled(workload, host).workspace_bytes == 0


@pytest.mark.parametrize("order", ["rows", "panels"])
@pytest.mark.parametrize("cores", [1, 4])
def test_workspace_is_the_padded_input_of_a_task_for_each_thread(order, cores, host, small):
    device = replace(host, cores=cores)
    # One row of one position in depth reads 2 rows in each of 2 planes, of 5 + 1 positions of 3 channels.
    assert compiled_in_order(small, device, order).workspace_bytes == 2 * 2 * 6 * 3 * 4 * cores


def test_workspace_that_all_tasks_share_counts_once(host, small):
    built = compiled_in_order(small, replace(host, cores=4), "filters")
    # The whole input, 2 planes of 2 rows; only rows have zeros around them.
    assert built.workspace_bytes == 2 * 2 * 6 * 3 * 4


def test_schedule_that_tvm_cannot_lower_is_an_error(host, small):
    default = default_schedule(small, host)
    sch = default.apply(host)
    sch.bind(sch.get_loops(sch.get_sblock("y"))[-1], "threadIdx.x")
    with pytest.raises(CompileError, match=f"failed to compile workload with {small.id}: "):
        kernel.compile_kernel(default.layout(host), host, sch)
