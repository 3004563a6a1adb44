"""Is a value that is used several times in an expression once, and computed as if it were written out?"""

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")
import tvm_ffi
from tvm import ir, te, tirx

from tvm_conv3dt.compiler.activation import activation_of
from tvm_conv3dt.compiler.elements import narrow
from tvm_conv3dt.compiler.pipeline import CPU, place_buffers
from tvm_conv3dt.compiler.sharing import shared
from tvm_conv3dt.compiler.target import target_of
from tvm_conv3dt.spec import ACTIVATIONS, Workload

SIZES = (1, 1, 1, 1, 1)


def reads(expression):
    """How often an expression reads an array."""
    found = []
    tvm_ffi.structural_walk(expression, (ir.TensorLoad, found.append))
    return len(found)


def fourth_power(x):
    return shared("square", "float32", x * x, lambda square: square * square)


def element():
    return tirx.BufferLoad(tirx.decl_buffer((8,), "float32", "x"), [tirx.Var("i", "int32")])


def test_value_is_there_once():
    x = element()
    assert reads((x * x) * (x * x)) == 4
    assert reads(fourth_power(x)) == 2


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_do_not_multiply_what_they_are_of(activation):
    workload = Workload.make(SIZES, SIZES, SIZES, 1, activation=activation)
    assert reads(narrow(activation_of(workload)(element()), "uint16")) <= 3


@pytest.mark.parametrize("lanes", [1, 8])
def test_values_are_those_written_out(lanes, host):
    x = te.placeholder((16,), "float32", "x")
    y = te.compute((16,), lambda i: fourth_power(x[i]), "y")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([x, y]))
    (loop,) = schedule.get_loops(schedule.get_sblock("y"))
    outer, inner = schedule.split(loop, [None, lanes])
    schedule.unroll(outer)  # each copy of the value is another one
    schedule.vectorize(inner)
    run = tvm.compile(place_buffers(schedule.mod), target=target_of(host), tir_pipeline=CPU)
    values, found = np.arange(16, dtype=np.float32), tvm.runtime.tensor(np.zeros(16, np.float32))
    run["main"](tvm.runtime.tensor(values), found)
    assert np.array_equal(found.numpy(), values**4)
