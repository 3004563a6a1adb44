"""Are the instructions of tensor cores there by name, without TVM's hundreds?"""

import subprocess
import sys

import pytest

pytest.importorskip("tvm")

from tvm import s_tir

from tvm_conv3dt.compiler.fragments import SQUARE, fragments


def test_every_name_is_of_an_instruction():
    names = fragments()
    assert len(set(names)) == len(names) == 5
    for name in names:
        assert s_tir.TensorIntrin.get(name) is not None


def test_names_are_the_same_each_time():
    assert fragments() is fragments()


@pytest.mark.parametrize("name", ["load_a", "load_b", "fill", "multiply", "store"])
def test_operands_are_squares(name):
    description = s_tir.TensorIntrin.get(getattr(fragments(), name)).desc
    for parameter in description.params:
        assert [int(size) for size in parameter.shape] == [SQUARE, SQUARE]


def test_tvms_own_are_not_parsed():
    code = (
        "import sys; from tvm_conv3dt.compiler.fragments import fragments; fragments();"
        "print([name for name in sys.modules if name.endswith('tensor_intrin.cuda')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
