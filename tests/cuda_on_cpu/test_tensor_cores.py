"""Fragments of nvcuda::wmma, by kernels written by hand."""

import numpy as np
import pytest

from .emulator import LaunchError
from .test_definitions import kernel

WARP = (32, 1, 1)
_rng = np.random.default_rng(0)


def fragment(use, shape, element="half", layout=None):
    words = [f"nvcuda::wmma::{use}", *map(str, shape), element]
    if layout:
        words.append(f"nvcuda::wmma::{layout}_major")
    return f"nvcuda::wmma::fragment<{', '.join(words)}>"


def aligned(array):
    """Return a copy at an address that tensor cores take."""
    memory = np.zeros(array.nbytes + 32, "uint8")
    start = -memory.ctypes.data % 32
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize("shape", [(16, 16, 16), (32, 8, 16), (8, 32, 16)])
@pytest.mark.parametrize("layout_a", ["row", "col"])
@pytest.mark.parametrize("layout_b", ["row", "col"])
@pytest.mark.parametrize("layout_c", ["row", "col"])
def test_a_product_of_fragments_is_exact(shape, layout_a, layout_b, layout_c):
    m, n, k = shape
    a = _rng.integers(-8, 9, (m, k)).astype("float16")
    b = _rng.integers(-8, 9, (k, n)).astype("float16")
    c = _rng.integers(-8, 9, (m, n)).astype("float32")

    def stored(array, layout):
        return aligned(array if layout == "row" else array.T)

    x, y, z = stored(a, layout_a), stored(b, layout_b), stored(c, layout_c)
    body = f"""
    using namespace nvcuda::wmma;
    {fragment("matrix_a", shape, layout=layout_a)} a[1];
    {fragment("matrix_b", shape, layout=layout_b)} b[1];
    {fragment("accumulator", shape, "float")} c[1];
    load_matrix_sync(a[0], x, {x.shape[1]});
    load_matrix_sync(b[0], y, {y.shape[1]});
    load_matrix_sync(c[0], z, {z.shape[1]}, mem_{layout_c}_major);
    mma_sync(c[0], a[0], b[0], c[0]);
    store_matrix_sync(z, c[0], {z.shape[1]}, mem_{layout_c}_major);"""
    kernel(body, (x, y, z), block=WARP)["f"](x, y, z)
    found = z if layout_c == "row" else z.T
    np.testing.assert_array_equal(found, a.astype("float32") @ b.astype("float32") + c)


def test_sums_in_half_are_rounded_after_an_operation():
    ones, y = aligned(np.ones((16, 16), "float16")), aligned(np.zeros((16, 16), "float16"))
    body = f"""
    {fragment("matrix_a", (16, 16, 16), layout="row")} a;
    {fragment("matrix_b", (16, 16, 16), layout="row")} b;
    {fragment("accumulator", (16, 16, 16))} c;
    nvcuda::wmma::load_matrix_sync(a, x, 16);
    nvcuda::wmma::load_matrix_sync(b, x, 16);
    nvcuda::wmma::fill_fragment(c, 4095.0f);
    nvcuda::wmma::mma_sync(c, a, b, c);
    nvcuda::wmma::store_matrix_sync(y, c, 16, nvcuda::wmma::mem_row_major);"""
    kernel(body, (ones, y), block=WARP)["f"](ones, y)
    assert (y == np.float16(4096 + 16)).all()


def test_a_fragment_that_nothing_filled_is_nan():
    y = aligned(np.zeros((16, 16), "float32"))
    body = f"""
    {fragment("accumulator", (16, 16, 16), "float")} c;
    nvcuda::wmma::store_matrix_sync(x, c, 16, nvcuda::wmma::mem_row_major);"""
    kernel(body, (y,), block=WARP)["f"](y)
    assert np.isnan(y).all()


@pytest.mark.parametrize(
    "address, stride, why",
    [
        ("x + 8", 16, "an address of a fragment is not a multiple of 32 bytes"),
        ("x", 12, "rows of a fragment are not multiples of 16 bytes apart"),
    ],
)
def test_a_fragment_where_tensor_cores_do_not_read_is_told(address, stride, why):
    x = aligned(np.zeros(1024, "float16"))
    body = f"""
    {fragment("matrix_a", (16, 16, 16), layout="row")} a;
    nvcuda::wmma::load_matrix_sync(a, {address}, {stride});"""
    with pytest.raises(LaunchError, match=why):
        kernel(body, (x,), block=WARP)["f"](x)


def test_an_operation_that_not_all_lanes_reach_is_told():
    x = aligned(np.zeros(1024, "float32"))
    body = f"""
    {fragment("accumulator", (16, 16, 16), "float")} c;
    if (threadIdx.x < 48) nvcuda::wmma::fill_fragment(c, 1.0f);"""
    with pytest.raises(LaunchError, match="not reached by all of its lanes"):
        kernel(body, (x,), block=(64, 1, 1))["f"](x)
