"""Do register tiles become variables of their own, and only where nothing is lost?"""

import pytest

tvm = pytest.importorskip("tvm")

import tvm_ffi
from tvm import tirx

from tvm_conv3dt.compiler.registers import split_registers


def function_of(body):
    return tirx.PrimFunc([], body)


def allocations(function):
    found = []
    tvm_ffi.structural_walk(
        function,
        (tirx.AllocBuffer, lambda each: found.append((each.buffer.name, each.buffer.scope()))),
    )
    return found


def store(buffer, place, value=1.0):
    return tirx.BufferStore(buffer, tirx.const(value, "float32"), [place])


def constant(value):
    return tirx.const(value, "int64")


@pytest.fixture
def tile():
    return tirx.decl_buffer((4,), "float32", "tile", scope="local")


def test_each_constant_place_becomes_a_buffer(tile):
    copied = tirx.BufferStore(tile, tirx.BufferLoad(tile, [constant(1)]), [constant(3)])
    body = tirx.SeqStmt([tirx.AllocBuffer(tile), store(tile, constant(1)), copied])
    split = split_registers(function_of(body))
    # Not local: those are on the heap.
    assert allocations(split) == [("tile_1", "global"), ("tile_3", "global")]


def test_a_single_place_is_split_too(tile):
    body = tirx.SeqStmt([tirx.AllocBuffer(tile), store(tile, constant(0))])
    assert allocations(split_registers(function_of(body))) == [("tile_0", "global")]


def test_buffer_with_a_place_that_varies_stays(tile):
    i = tirx.Var("i", "int32")
    loop = tirx.For(i, 0, 4, tirx.ForKind.SERIAL, store(tile, i))
    body = tirx.SeqStmt([tirx.AllocBuffer(tile), store(tile, constant(1)), loop])
    assert allocations(split_registers(function_of(body))) == [("tile", "local")]


def test_buffer_whose_address_is_taken_stays(tile):
    """An instruction that stores a whole tile is given the address of its first element."""
    address = tirx.Evaluate(tirx.address_of(tirx.BufferLoad(tile, [constant(0)])))
    body = tirx.SeqStmt([tirx.AllocBuffer(tile), store(tile, constant(0)), address])
    assert allocations(split_registers(function_of(body))) == [("tile", "local")]


def test_buffer_that_is_not_local_stays():
    other = tirx.decl_buffer((4,), "float32", "other")
    body = tirx.SeqStmt([tirx.AllocBuffer(other), store(other, constant(1))])
    assert allocations(split_registers(function_of(body))) == [("other", "global")]
