"""Is what is in loops found, and does a block say what it reads and writes?"""

import pytest

pytest.importorskip("tvm")

from tvm import ir, tirx

from tvm_conv3dt.compiler.statements import inside, opaque


def test_what_is_in_loops_is_found_with_their_variables():
    i, j = tirx.Var("i", "int32"), tirx.Var("j", "int32")
    statement = tirx.Evaluate(i + j)
    inner = tirx.For(j, 0, 1, tirx.ForKind.SERIAL, statement)
    found, loops = inside(tirx.For(i, 0, 1, tirx.ForKind.SERIAL, inner))
    assert found.same_as(statement)
    assert loops == {i: 0, j: 0}


def test_what_is_in_no_loop_is_itself():
    statement = tirx.Evaluate(0)
    found, loops = inside(statement)
    assert found.same_as(statement)
    assert loops == {}


def test_block_has_regions_and_no_axes():
    buffer = tirx.decl_buffer((4,), "float32", "buffer")
    region = tirx.BufferRegion(buffer, [ir.Range(1, 3)])
    made = opaque("some", [region], [], tirx.Evaluate(0)).block
    assert (made.name_hint, len(made.iter_vars), len(made.writes)) == ("some", 0, 0)
    assert made.reads[0].same_as(region)
