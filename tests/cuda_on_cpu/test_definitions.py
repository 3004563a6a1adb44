"""The definitions of CUDA's types, functions and blocks, by kernels written by hand."""

import ml_dtypes
import numpy as np
import pytest

from .emulator import ORDERS, Emulated, LaunchError
from .lowering import HostFunction, Launch, Lowered, Parameter

TYPES = {
    "float32": "float",
    "float16": "half",
    "bfloat16": "nv_bfloat16",
    "int32": "int",
    "uint32": "unsigned",
    "uint16": "unsigned short",
    "int8": "signed char",
    "int64": "long long",
}


def kernel(body, arrays, grid=(1, 1, 1), block=(1, 1, 1)):
    """Return a kernel of one function, which takes `arrays` as x, y and z."""
    parameters = ", ".join(
        f"{TYPES[str(array.dtype)]}* __restrict__ {name}"
        for name, array in zip("xyz", arrays, strict=False)
    )
    source = (
        "#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n#include <mma.h>\n#include <math_constants.h>\n"
        f'extern "C" __global__ void __launch_bounds__(1024) f({parameters}) {{\n#line 1\n{body}\n}}\n'
    )
    launch = Launch("f", tuple(("parameter", each) for each in range(len(arrays))), grid, block)
    function = HostFunction(
        tuple(Parameter("array", each.shape, str(each.dtype)) for each in arrays), (), (launch,)
    )
    return Emulated.from_lowered(Lowered(source, {"f": function}))


def each_of(expression, x, dtype):
    """Return an expression of ``v``, for each element of an array."""
    x = np.asarray(x)
    y = np.zeros(x.shape, dtype)
    body = f"int i = blockIdx.x * 64 + threadIdx.x; if (i < {x.size}) {{ {TYPES[str(x.dtype)]} v = x[i]; y[i] = {expression}; }}"
    kernel(body, (x, y), grid=(-(-x.size // 64), 1, 1), block=(64, 1, 1))["f"](x, y)
    return y


BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
SMALL = [np.dtype("float16"), BFLOAT16]


@pytest.mark.parametrize("dtype", SMALL, ids=str)
def test_every_small_float_as_a_float_is_exact(dtype):
    x = np.arange(1 << 16, dtype="uint16").view(dtype)
    np.testing.assert_array_equal(each_of("(float)v", x, "float32"), x.astype("float32"))


@pytest.mark.parametrize(
    "number, half",
    [
        (1 + 2**-11, 1),  # in the middle: to the even one
        (1 + 2**-11 + 2**-23, 1 + 2**-10),
        (1 + 3 * 2**-11, 1 + 2**-9),
        (2**-25, 0),
        (2**-25 + 2**-40, 2**-24),
        (-3 * 2**-26, -(2**-24)),
        (65519.99, 65504),
        (65520, np.inf),
        (-1e30, -np.inf),
        (np.inf, np.inf),
        (np.nan, np.nan),
    ],
)
@pytest.mark.parametrize("expression", ["(half)v", "__float2half_rn(v)"])
def test_a_float_is_rounded_to_the_nearest_half(number, half, expression):
    found = each_of(expression, np.float32([number]), "float16")
    np.testing.assert_array_equal(found, np.float16([half]))


@pytest.mark.parametrize(
    "number, rounded",
    [
        (1 + 2**-8, 1),
        (1 + 2**-8 + 2**-23, 1 + 2**-7),
        (1 + 3 * 2**-8, 1 + 2**-6),
        (2**-134, 0),
        (3 * 2**-135, 2**-133),
        (3.4e38, np.inf),
        (-np.inf, -np.inf),
        (np.nan, np.nan),
    ],
)
@pytest.mark.parametrize("expression", ["(nv_bfloat16)v", "__float2bfloat16_rn(v)"])
def test_a_float_is_rounded_to_the_nearest_bfloat16(number, rounded, expression):
    found = each_of(expression, np.float32([number]), BFLOAT16)
    np.testing.assert_array_equal(found.astype("float32"), np.float32([rounded]))


@pytest.mark.parametrize("dtype", SMALL, ids=str)
def test_floats_are_rounded_as_in_numpy(dtype):
    bits = np.random.default_rng(0).integers(0, 1 << 32, 1 << 16, dtype="uint32")
    floats = bits.view("float32")
    with np.errstate(over="ignore", invalid="ignore"):
        expected = floats.astype(dtype)
    found = each_of(f"({TYPES[str(dtype)]})v", floats, dtype)
    np.testing.assert_array_equal(found.astype("float32"), expected.astype("float32"))


@pytest.mark.parametrize(
    "type_name, dtype, expected",
    [
        ("int", "int32", [2, -2, 65504, 2**31 - 1, -(2**31), 0]),
        ("unsigned", "uint32", [2, 0, 65504, 2**32 - 1, 0, 0]),
        ("signed char", "int8", [2, -2, 127, 127, -128, 0]),
        ("unsigned short", "uint16", [2, 0, 65504, 65535, 0, 0]),
        ("long long", "int64", [2, -2, 65504, 2**63 - 1, -(2**63), 0]),
    ],
)
def test_a_half_becomes_an_integer_within_its_range(type_name, dtype, expected):
    x = np.float16([2.9, -2.9, 65504, np.inf, -np.inf, np.nan])
    np.testing.assert_array_equal(each_of(f"({type_name})v", x, dtype), np.array(expected, dtype))


def test_an_integer_becomes_the_nearest_half():
    x = np.int32([1, 2049, 2051, -4098, 65519, 65520, 2**31 - 1])
    expected = np.float16([1, 2048, 2052, -4096, 65504, np.inf, np.inf])
    np.testing.assert_array_equal(each_of("(half)v", x, "float16"), expected)


@pytest.mark.parametrize("operation", ["+", "-", "*", "/"])
@pytest.mark.parametrize("dtype", SMALL, ids=str)
def test_arithmetic_is_rounded_after_each_operation(operation, dtype):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 1 << 16, (2, 4096), dtype="uint16").view(dtype)
    z = np.zeros_like(x)
    body = f"""
    int i = threadIdx.x + 64 * blockIdx.x;
    {TYPES[str(dtype)]} once = x[i] {operation} y[i];
    z[i] = once {operation} y[i];"""
    kernel(body, (x, y, z), grid=(64, 1, 1), block=(64, 1, 1))["f"](x, y, z)
    numpy = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}[operation]
    with np.errstate(all="ignore"):
        expected = numpy(numpy(x, y), y)
    np.testing.assert_array_equal(z.astype("float32"), expected.astype("float32"))


@pytest.mark.parametrize(
    "dtype, values, expected",
    [
        # 1 + 2**-11 is in the middle of two halves; float loses what is added to it.
        (SMALL[0], (1.5, 683 / 1024, 2**-24), 1 + 2**-10),
        (SMALL[1], (7, 37 / 256, -(2**-40)), 1 + 2**-7),
    ],
    ids=str,
)
def test_a_fused_multiply_add_is_rounded_once(dtype, values, expected):
    x, y = np.array(values, dtype), np.zeros(1, dtype)
    kernel("y[0] = __hfma(x[0], x[1], x[2]);", (x, y))["f"](x, y)
    assert y[0] == np.array(expected, dtype)


@pytest.mark.parametrize(
    "expression, expected",
    [
        ("max(v, 2.0f)", [2, 3, 2, np.inf]),
        ("min(v, 2.0f)", [1, 2, 2, 2]),
        ("expf(v - v)", [1, 1, np.nan, np.nan]),
        ("v < CUDART_INF_F ? v : -CUDART_INF_F", [1, 3, -np.inf, -np.inf]),
        ("(float)hexp((half)(v * 0.0f))", [1, 1, np.nan, np.nan]),
        ("(float)(half(v) > half(2.0f))", [0, 1, 0, 1]),
        ("(float)__hmax(half(v), half(2.0f))", [2, 3, 2, np.inf]),
        ("__int_as_float(__float_as_int(v))", [1, 3, np.nan, np.inf]),
    ],
)
def test_a_function_gives(expression, expected):
    found = each_of(expression, np.float32([1, 3, np.nan, np.inf]), "float32")
    np.testing.assert_array_equal(found, np.float32(expected))


@pytest.mark.parametrize("order", ORDERS)
def test_a_thread_knows_its_indices(order):
    y = np.zeros((2, 3, 2, 2, 2, 4, 6), "int32")
    body = """
    int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    int* to = x + (block * 16 + thread) * 6;
    to[0] = blockIdx.z, to[1] = blockIdx.y, to[2] = blockIdx.x;
    to[3] = threadIdx.z, to[4] = threadIdx.y, to[5] = threadIdx.x;"""
    kernel(body, (y,), grid=(2, 3, 2), block=(4, 2, 2))["f"](y, order=order)
    np.testing.assert_array_equal(
        np.moveaxis(y, -1, 0), np.indices(y.shape[:-1]).reshape(6, *y.shape[:-1])
    )


@pytest.mark.parametrize("order", ORDERS)
def test_a_barrier_lets_each_thread_read_what_others_wrote(order):
    y = np.zeros((4, 256), "int32")
    body = """
    __shared__ alignas(64) int values[256];
    int sum = 0;
    for (int i = 0; i < 3; ++i) {
      values[threadIdx.x] = threadIdx.x + i;
      __syncthreads();
      sum += values[255 - threadIdx.x];
      __syncthreads();
    }
    x[blockIdx.x * 256 + threadIdx.x] = sum;"""
    kernel(body, (y,), grid=(4, 1, 1), block=(256, 1, 1))["f"](y, order=order)
    np.testing.assert_array_equal(y, np.broadcast_to(3 * (255 - np.arange(256)) + 3, y.shape))


def test_shared_memory_that_no_thread_of_the_block_wrote_is_nan():
    y = np.zeros(8, "float32")
    body = """
    __shared__ alignas(64) float value[1];
    x[blockIdx.x] = value[0];
    value[0] = 1.0f;"""
    kernel(body, (y,), grid=(8, 1, 1))["f"](y)
    assert np.isnan(y).all()


@pytest.mark.parametrize(
    "body, why",
    [
        (
            "if (threadIdx.x < 40)\n__syncthreads();",
            "the first came to line 2, this one to the end",
        ),
        (
            "if (threadIdx.x < 40) return;\n__syncthreads();",
            "the first came to the end, this one to line 2",
        ),
        (
            "if (threadIdx.x < 40)\n__syncthreads();\nelse\n__syncthreads();",
            "the first came to line 2, this one to line 4",
        ),
        (
            "for (int i = 0; i < threadIdx.x; ++i)\n__syncthreads();",
            "the first came to the end, this one to line 2",
        ),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_a_barrier_that_not_all_threads_reach_is_told(body, why, order):
    y = np.zeros(1, "int32")
    emulated = kernel(body, (y,), grid=(3, 1, 1), block=(64, 1, 1))
    for _ in range(2):  # a launch that failed is over
        with pytest.raises(LaunchError, match=f"f: a barrier is not reached by all threads.*{why}"):
            emulated["f"](y, order=order)


def test_a_block_of_too_many_threads_is_told():
    y = np.zeros(1, "int32")
    with pytest.raises(LaunchError, match="more than 1024 threads"):
        kernel("", (y,), block=(1025, 1, 1))["f"](y)
