"""Are activations on GPUs those of CUDA's library, and as precise?"""

import re

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from cuda_on_cpu.emulator import Emulated
from tvm import s_tir, te

from tvm_conv3dt.compiler.activation import activation_of
from tvm_conv3dt.spec import Workload

FUNCTIONS = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
CALLS = {"elu": "expm1", "sigmoid": "exp", "tanh": "tanh"}
EPSILON = {"float32": 2.0**-23, "float64": 2.0**-52}


def emulated(activation, dtype, count):
    """The activation of `count` numbers by a GPU's threads."""
    sizes = (1, 1, 1, 1, 1)
    workload = Workload.make(sizes, sizes, sizes, 1, dtype=dtype, activation=activation)
    x = te.placeholder((count,), dtype, "x")
    y = te.compute((count,), lambda i: activation_of(workload, math_library=True)(x[i]), "y")
    schedule = s_tir.Schedule(te.create_prim_func([x, y]))
    block, thread = schedule.split(*schedule.get_loops(schedule.get_sblock("y")), [None, 64])
    schedule.bind(block, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    return Emulated.of(schedule.mod)


@pytest.mark.parametrize("dtype", EPSILON)
@pytest.mark.parametrize("activation", FUNCTIONS)
def test_values_are_right_to_a_few_steps(activation, dtype):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, scale, 512) for scale in (1e-6, 0.1, 3, 30)]).astype(dtype)
    found = np.full_like(x, np.nan)
    emulated(activation, dtype, x.size)["main"](x, found)
    with np.errstate(over="ignore"):
        expected = FUNCTIONS[activation](x.astype(np.longdouble))
    # Where the exponential leaves the numbers, a sigmoid is zero.
    least = np.finfo(dtype).tiny
    np.testing.assert_allclose(found, expected.astype(dtype), rtol=8 * EPSILON[dtype], atol=least)


@pytest.mark.parametrize("dtype", EPSILON)
@pytest.mark.parametrize(
    ("activation", "expected"),
    [("elu", [np.nan, np.inf, -1]), ("sigmoid", [np.nan, 1, 0]), ("tanh", [np.nan, 1, -1])],
)
def test_values_that_are_not_finite_pass(activation, expected, dtype):
    x = np.array([np.nan, np.inf, -np.inf], dtype)
    found = np.zeros_like(x)
    emulated(activation, dtype, 3)["main"](x, found)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", EPSILON)
@pytest.mark.parametrize("activation", FUNCTIONS)
def test_function_is_called_by_its_name_in_c(activation, dtype):
    name = CALLS[activation] + ("f" if dtype == "float32" else "")
    assert re.search(rf"\b{name}\(", emulated(activation, dtype, 64).source)
