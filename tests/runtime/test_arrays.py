"""Are callers' arrays used where they lie if compiled code can, copied if not, and refused if they are not fit?"""

import re

import numpy as np
import pytest

from tvm_conv3dt import errors
from tvm_conv3dt.runtime import arrays
from tvm_conv3dt.runtime.arrays import check_output, direct, is_direct, tensor, view

FLOAT = np.dtype("float32")
SHAPE = (2, 3, 4, 5, 6)
OTHER = np.zeros(1, FLOAT)


@pytest.fixture(params=["float32", "float64", "float16", "bfloat16"])
def dtype(request):
    if request.param == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(request.param)


def integers(dtype):
    return (np.arange(720) % 251 - 125).reshape(SHAPE).astype(dtype)


def address(array):
    return array.__array_interface__["data"][0]


def off(array, offset):
    """The array at an odd place in memory."""
    memory = np.zeros(array.nbytes + 64 + offset, np.uint8)
    start = -address(memory) % 64 + offset
    moved = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


def read_only(array):
    array = array.copy(order="K")
    array.flags.writeable = False
    return array


AS_IT_LIES = {
    "plain": lambda a: a,
    "read-only": read_only,
    "one element off": lambda a: off(a, a.itemsize),
    "part of a batch": lambda a: np.concatenate([a, a])[2:],
    "odd stride of a size of one": lambda a: np.lib.stride_tricks.as_strided(
        a, (1, *a.shape[1:]), (3, *a.strides[1:])
    ),
}
COPIED = {
    "fortran": np.asfortranarray,
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "negative strides": lambda a: a[::-1, ::-1, ::-1, ::-1, ::-1].copy()[
        ::-1, ::-1, ::-1, ::-1, ::-1
    ],
    "every second": lambda a: np.repeat(a, 2, axis=4)[..., ::2],
    "zero strides": lambda a: np.broadcast_to(a[:1, :, :1], a.shape),
    "one byte off": lambda a: off(a, 1),
    "read-only and fortran": lambda a: read_only(np.asfortranarray(a)),
}


@pytest.mark.parametrize("layout", AS_IT_LIES)
def test_fit_array_is_used_where_it_lies(dtype, layout):
    array = AS_IT_LIES[layout](integers(dtype))
    used = direct(view("x", array, dtype), dtype)
    assert address(used) == address(array)
    assert np.array_equal(used, array)


@pytest.mark.parametrize("layout", COPIED)
def test_other_array_is_copied(dtype, layout):
    array = COPIED[layout](integers(dtype))
    used = direct(view("x", array, dtype), dtype)
    assert not np.may_share_memory(used, array)
    assert is_direct(used)
    assert used.dtype == dtype
    assert np.array_equal(used, array)


@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_other_byte_order_is_copied(name):
    array = integers(np.dtype(name).newbyteorder(">"))
    used = direct(view("x", array, np.dtype(name)), np.dtype(name))
    assert used.dtype.isnative
    assert np.array_equal(used, array)


def test_swapped_bytes_of_bfloat16_are_no_bfloat16():
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    with pytest.raises(errors.ArgumentTypeError, match="this workload takes bfloat16"):
        view("x", np.zeros(3, dtype.newbyteorder(">")), dtype)


@pytest.mark.parametrize(
    "given",
    ["float64", "float16", "int32", "uint16", "bool", "complex64", "O", "M8[s]", "U3", "S2", "V4"],
)
def test_other_dtype_is_refused(given):
    with pytest.raises(errors.ArgumentTypeError, match=r"array x with dtype=.*takes float32"):
        view("x", np.zeros(SHAPE, given), FLOAT)


def test_structured_dtype_is_refused():
    with pytest.raises(errors.ArgumentTypeError, match=r"takes float32$"):
        view("x", np.zeros(SHAPE, [("value", "f4")]), FLOAT)


def test_integers_are_not_taken_for_bfloat16():
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    with pytest.raises(errors.ArgumentTypeError, match=re.escape("x.astype(ml_dtypes.bfloat16)")):
        view("x", np.zeros(SHAPE, np.uint16), dtype)
    with pytest.raises(errors.ArgumentTypeError, match=r"dtype=bfloat16.*takes float32"):
        view("x", np.zeros(SHAPE, dtype), FLOAT)


def test_tensor_shares_memory(dtype):
    array = integers(dtype)
    for given in (array, read_only(array)):
        made = tensor(given)
        assert made.data_ptr() == address(given)
        assert tuple(made.shape) == SHAPE
        assert str(made.dtype) == ("uint16" if dtype.isbuiltin == 2 else dtype.name)


def test_tensor_keeps_read_only_memory():
    made = tensor(read_only(integers(FLOAT)))
    np.zeros(SHAPE, FLOAT)[...] = 7  # what would take the memory if it were free
    assert np.array_equal(np.from_dlpack(made), integers(FLOAT))


@pytest.mark.parametrize("layout", [*AS_IT_LIES, *COPIED])
def test_output_of_any_layout_is_itself(dtype, layout):
    out = {**AS_IT_LIES, **COPIED}[layout](integers(dtype))
    if not out.flags.writeable:
        with pytest.raises(errors.ArrayError, match="it must be writable"):
            check_output(out, out.shape, dtype, OTHER)
    else:
        assert check_output(out, out.shape, dtype, OTHER) is out


def strided(shape, strides):
    memory = np.zeros(64, FLOAT)
    return np.lib.stride_tricks.as_strided(memory, shape, [4 * stride for stride in strides])


@pytest.mark.parametrize(
    ("shape", "strides"), [((2, 3), (0, 1)), ((2, 3), (2, 1)), ((3, 2), (1, 1)), ((2, 2), (1, -1))]
)
def test_output_over_itself_is_refused(shape, strides):
    with pytest.raises(errors.ArrayError, match="its elements must lie apart"):
        check_output(strided(shape, strides), shape, FLOAT, OTHER)


@pytest.mark.parametrize(
    ("shape", "strides"), [((2, 3), (3, 1)), ((2, 3), (1, 2)), ((1, 3), (0, 5)), ((2, 2), (-9, 4))]
)
def test_output_with_gaps_is_taken(shape, strides):
    memory = np.zeros(64, FLOAT)
    out = np.lib.stride_tricks.as_strided(memory[20:], shape, [4 * stride for stride in strides])
    assert check_output(out, shape, FLOAT, OTHER) is out


MEMORY = np.zeros((4, 6), FLOAT)
SHARING = {
    "the same": (MEMORY, MEMORY),
    "one element": (MEMORY.ravel()[:6], MEMORY.ravel()[5:]),
    "crossing": (MEMORY[1], MEMORY[:, 2]),
    "columns": (MEMORY[:, 1:3], MEMORY[:, 2:]),
    "reversed": (MEMORY[::-1], MEMORY),
    "other byte order": (MEMORY.view(">f4"), MEMORY),
}
APART = {
    "beside": (MEMORY[:2], MEMORY[2:]),
    "columns": (MEMORY[:, :3], MEMORY[:, 3:]),
    "woven": (MEMORY[:, ::2], MEMORY[:, 1::2]),
    "other memory": (MEMORY, MEMORY.copy()),
}


@pytest.mark.parametrize("name", SHARING)
def test_output_over_the_input_is_refused(name):
    x, out = SHARING[name]
    with pytest.raises(errors.ArrayError, match="must not share memory with the input"):
        check_output(out, out.shape, FLOAT, x)


@pytest.mark.parametrize("name", APART)
def test_output_beside_the_input_is_taken(name):
    x, out = APART[name]
    assert check_output(out, out.shape, FLOAT, x) is out


def test_overlap_that_is_hard_to_find_counts_as_one(monkeypatch):
    memory = np.zeros(1 << 10, np.float32)
    x, out = (
        np.lib.stride_tricks.as_strided(memory[at:], (4, 4, 4), [4 * 158, 4 * 34, 4 * 7])
        for at in (0, 8)
    )
    assert check_output(out, out.shape, FLOAT, x) is out
    monkeypatch.setattr(arrays, "_OVERLAP_WORK", 1)
    with pytest.raises(errors.ArrayError, match="must not share memory with the input"):
        check_output(out, out.shape, FLOAT, x)


@pytest.mark.parametrize("dtype", ["float64", ">f4", "int32", "O"])
def test_output_of_another_dtype_is_refused(dtype):
    with pytest.raises(errors.ArgumentTypeError, match="gives float32 in native byte order"):
        check_output(np.zeros(SHAPE, dtype), SHAPE, FLOAT, OTHER)


def test_output_of_another_shape_is_refused():
    with pytest.raises(errors.ArrayError, match=re.escape("gives the shape [2, 3]")):
        check_output(np.zeros((3, 2), FLOAT), (2, 3), FLOAT, OTHER)


@pytest.mark.peers
class TestTorch:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    def test_output_is_the_tensors_memory(self, torch):
        out = torch.zeros(SHAPE)
        assert address(check_output(out, SHAPE, FLOAT, OTHER)) == out.data_ptr()

    def test_output_over_numpys_input_is_refused(self, torch):
        x = np.zeros((2, 6), FLOAT)
        out = torch.from_numpy(x)[1:]
        with pytest.raises(errors.ArrayError, match="must not share memory with the input"):
            check_output(out, (1, 6), FLOAT, x)
        assert check_output(out, (1, 6), FLOAT, x[:1]).shape == (1, 6)

    def test_expanded_output_is_refused(self, torch):
        out = torch.zeros(1, 3).expand(2, 3)
        with pytest.raises(errors.ArrayError, match="its elements must lie apart"):
            check_output(out, (2, 3), FLOAT, OTHER)
