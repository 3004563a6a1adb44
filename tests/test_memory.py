"""Does memory start where vectors begin?"""

import numpy as np
import pytest

from tvm_conv3dt.memory import ALIGNMENT, Reserve, aligned_copy, aligned_empty


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("shape", [(1,), (3, 5), (1 << 21, 3), (0, 4), ()])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_new_array_is_aligned(shape, dtype):
    array = aligned_empty(shape, np.dtype(dtype))
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert address(array) % ALIGNMENT == 0
    assert array.flags.c_contiguous
    assert array.flags.writeable


def test_copy_of_any_array_is_aligned_and_contiguous():
    source = np.arange(60, dtype=np.int16).reshape(3, 4, 5).transpose(2, 0, 1)[:, ::-1]
    copy = aligned_copy(source)
    assert np.array_equal(copy, source)
    assert address(copy) % ALIGNMENT == 0
    assert copy.flags.c_contiguous
    copy[...] = 0
    assert source.any()


LARGE = (1 << 10, 1 << 10)
FLOAT = np.dtype("float32")


@pytest.mark.parametrize("shape", [(3, 5), LARGE, (0,)])
def test_reserve_gives_arrays_like_any_other(shape):
    array = Reserve().empty(shape, FLOAT)
    assert type(array) is np.ndarray
    assert (array.shape, array.dtype) == (shape, FLOAT)
    assert array.flags.writeable
    assert array.flags.c_contiguous
    assert address(array) % ALIGNMENT == 0
    array[...] = 1
    assert array.sum() == array.size


def test_memory_of_an_array_that_is_gone_serves_the_next():
    reserve = Reserve()
    first = reserve.empty(LARGE, FLOAT)
    place = address(first)
    del first
    assert address(reserve.empty(LARGE, FLOAT)) == place


def test_arrays_that_are_alive_have_memory_of_their_own():
    reserve = Reserve()
    arrays = [reserve.empty(LARGE, FLOAT) for _ in range(3)]
    for value, array in enumerate(arrays):
        array[...] = value
    assert [array.max() for array in arrays] == [0, 1, 2]


@pytest.mark.parametrize("hold", [lambda a: a[5:], lambda a: a.T.reshape(-1), memoryview])
def test_view_keeps_the_memory(hold):
    reserve = Reserve()
    array = reserve.empty(LARGE, FLOAT)
    array[...] = 7
    view = hold(array)
    del array
    reserve.empty(LARGE, FLOAT)[...] = 8
    assert np.asarray(view).min() == 7


def test_memory_of_another_size_is_not_used():
    reserve = Reserve()
    reserve.empty(LARGE, FLOAT)[...] = 7
    larger = reserve.empty((2, *LARGE), FLOAT)
    larger[...] = 8
    assert larger.shape == (2, *LARGE)


def test_one_array_at_most_is_kept():
    reserve = Reserve()
    arrays = [reserve.empty(LARGE, FLOAT) for _ in range(3)]
    del arrays
    assert len(reserve._kept) == 1
