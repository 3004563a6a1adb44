"""Scheduled functions, executed as a GPU would execute them."""

import re
from dataclasses import replace

import numpy as np
import pytest

from . import schedules
from .compiling import compilers
from .emulator import ORDERS, Emulated, LaunchError
from .schedules import SIZE

BARRIER = "__syncthreads();"
_rng = np.random.default_rng(0)
A, B = _rng.integers(-4, 5, (2, SIZE, SIZE))


def product(emulated, dtype="float32", result="float32", order="forward"):
    """Return what a product of matrices gives, written over NaN."""
    out = np.full((SIZE, SIZE), np.nan, result)
    emulated["main"](A.astype(dtype), B.astype(dtype), out, order=order)
    return out


@pytest.fixture(scope="module")
def tiled():
    return Emulated.of(schedules.tiled().mod)


@pytest.fixture(scope="module")
def split_sum():
    return Emulated.of(schedules.split_sum().mod)


@pytest.mark.parametrize("compiler", compilers(), ids=lambda words: words[-1].rpartition("/")[2])
@pytest.mark.parametrize("order", ORDERS)
def test_a_product_by_tiles_in_shared_memory_is_exact(compiler, order):
    emulated = Emulated.of(schedules.tiled().mod, compiler=compiler)
    np.testing.assert_array_equal(product(emulated, order=order), A @ B)


@pytest.mark.parametrize("compiler", compilers(), ids=lambda words: words[-1].rpartition("/")[2])
@pytest.mark.parametrize("order", ORDERS)
def test_a_product_by_tensor_cores_is_exact(compiler, order):
    emulated = Emulated.of(schedules.tensor_cores().mod, compiler=compiler)
    np.testing.assert_array_equal(product(emulated, "float16", order=order), A @ B)


@pytest.mark.parametrize("order", ORDERS)
def test_a_product_by_tensor_cores_is_rounded_to_half_where_it_is_stored(order):
    emulated = Emulated.of(schedules.tensor_cores("float16").mod)
    found = product(emulated, "float16", "float16", order)
    np.testing.assert_array_equal(found, (A @ B).astype("float16"))


@pytest.mark.parametrize("order", ORDERS)
def test_kernels_of_a_function_hand_on_a_workspace(split_sum, order):
    function = split_sum.functions["main"]
    assert function.workspaces == (4 * SIZE * SIZE * 4,)
    assert [each.kernel for each in function.launches] == ["main_kernel", "main_kernel_1"]
    np.testing.assert_array_equal(product(split_sum, order=order), A @ B)


def test_a_workspace_that_is_read_before_it_is_written_is_nan(split_sum):
    function = split_sum.functions["main"]
    last = replace(function, launches=function.launches[1:])
    emulated = Emulated.from_lowered(replace(split_sum.lowered, functions={"main": last}))
    assert np.isnan(product(emulated)).all()


@pytest.mark.parametrize("number", [0, 1])
def test_a_missing_barrier_shows_in_one_order(tiled, number):
    starts = [each.start() for each in re.finditer(re.escape(BARRIER), tiled.source)]
    assert len(starts) == 2
    at = starts[number]
    emulated = tiled.with_source(tiled.source[:at] + tiled.source[at + len(BARRIER) :])
    assert any(not np.array_equal(product(emulated, order=order), A @ B) for order in ORDERS)


def test_a_missing_barrier_beside_tensor_cores_shows_in_one_order():
    emulated = Emulated.of(schedules.tensor_cores().mod)
    before, _, after = emulated.source.rpartition(BARRIER)
    assert "store_matrix_sync" in before and "store_matrix_sync" not in after
    emulated = emulated.with_source(before + after)
    found = [product(emulated, "float16", order=order) for order in ORDERS]
    assert any(not np.array_equal(each, A @ B) for each in found)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32"])
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_a_gather_with_a_condition_is_exact(dtype, lanes):
    x = _rng.integers(1, 9, SIZE * 4).astype(dtype)
    y = np.empty_like(x)
    Emulated.of(schedules.elementwise(dtype, lanes).mod)["main"](x, y)
    np.testing.assert_array_equal(y, np.concatenate([[0], 2 * x[:-1]]))


def test_bfloat16_is_taken_as_uint16():
    x = np.arange(1, SIZE * 4 + 1, dtype="float32")
    y = np.empty(x.shape, "uint16")
    emulated = Emulated.of(schedules.elementwise("bfloat16").mod)
    emulated["main"]((x.view("uint32") >> 16).astype("uint16"), y)
    found = (y.astype("uint32") << 16).view("float32")
    np.testing.assert_array_equal(found, np.concatenate([[0], 2 * x[:-1]]))


def test_arrays_are_used_where_they_lie(tiled):
    memory = np.full(SIZE * SIZE + 32, -7, "float32")
    start = -memory.ctypes.data // 4 % 16
    out = memory[start : start + SIZE * SIZE].reshape(SIZE, SIZE)
    tiled["main"](A.astype("float32"), B.astype("float32"), out)
    np.testing.assert_array_equal(out, A @ B)
    assert (memory[:start] == -7).all() and (memory[start + SIZE * SIZE :] == -7).all()


def test_a_vector_at_an_address_that_is_not_aligned_is_told(tiled):
    memory = np.zeros(SIZE * SIZE + 32, "float32")
    start = -memory.ctypes.data // 4 % 16 + 1
    a = memory[start : start + SIZE * SIZE].reshape(SIZE, SIZE)
    with pytest.raises(LaunchError, match="main_kernel: an address of a vector is not aligned, in"):
        tiled["main"](a, B.astype("float32"), np.empty((SIZE, SIZE), "float32"))
    np.testing.assert_array_equal(product(tiled), A @ B)  # which the error did not harm


@pytest.mark.parametrize(
    "arrays, why",
    [
        ([np.zeros((SIZE, SIZE), "float32")] * 2, "2 arrays for 3 parameters"),
        ([np.zeros((SIZE, 1), "float32")] * 3, r"an array of \(64, 1\) float32 for A, which is"),
        ([np.zeros((SIZE, SIZE), "float64")] * 3, "float64 for A, which is of .* float32"),
        ([np.zeros((SIZE, SIZE), "float32").T] * 3, "the array for A has gaps"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(tiled, arrays, why):
    with pytest.raises(ValueError, match=why):
        tiled["main"](*arrays)


def test_an_unknown_order_is_refused(tiled):
    with pytest.raises(ValueError, match="order sideways is none of forward, reverse"):
        product(tiled, order="sideways")


def test_host_code_that_does_more_than_launch_is_refused():
    with pytest.raises(ValueError, match="a kernel is launched inside of a For"):
        Emulated.of(schedules.in_a_loop().mod)


def test_source_with_what_is_not_defined_is_refused(tiled):
    source = tiled.source.replace(BARRIER, "__syncwarp();")
    with pytest.raises(RuntimeError, match="__syncwarp"):
        tiled.with_source(source)
