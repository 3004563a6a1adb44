"""What is true of tensors and capsules of DLPack, whatever device they say that they are on."""

import numpy as np
import pytest
import tvm_ffi

from tvm_conv3dt.runtime import cuda_memory

DEVICE = tvm_ffi.device("ext_dev", 0)


@pytest.fixture
def tensor(gpu):
    return cuda_memory.upload(np.arange(24, dtype=np.float32).reshape(2, 3, 4), DEVICE)


def values(tensor, dtype=np.float32):
    array = np.zeros(tensor.shape, dtype)
    cuda_memory.download(tensor, array)
    return array


def test_what_goes_there_comes_back(tensor):
    assert str(tensor.device) == "ext_dev:0"
    np.testing.assert_array_equal(values(tensor).ravel(), np.arange(24))


def test_part_starts_where_its_memory_does(tensor):
    part = cuda_memory.part(tensor, (1, 3, 4), "float32", 48)
    # Compiled code refuses tensors whose address has to be added to.
    again = cuda_memory.whole(part)
    assert again is part
    assert part.data_ptr() == tensor.data_ptr() + 48
    np.testing.assert_array_equal(values(part).ravel(), np.arange(12, 24))


def test_part_keeps_the_whole(gpu):
    whole = cuda_memory.upload(np.arange(1 << 20, dtype=np.float32), DEVICE)
    uses = tvm_ffi.get_global_func("testing.object_use_count")
    before = uses(whole)
    part = cuda_memory.part(whole, (4,), "float32", 16)
    assert uses(whole) > before
    del part
    assert uses(whole) == before


def test_part_may_have_another_dtype(tensor):
    part = cuda_memory.part(tensor, (48,), "uint16")
    expected = np.arange(24, dtype=np.float32).view(np.uint16)
    np.testing.assert_array_equal(values(part, np.uint16), expected)


def test_move_copies_one_to_another(tensor, gpu):
    other = cuda_memory.empty((2, 3, 4), "float32", DEVICE)
    cuda_memory.move(tensor, other, DEVICE)
    assert gpu.waits == [0]
    np.testing.assert_array_equal(values(other), values(tensor))


def test_addresses_are_those_of_the_elements(tensor):
    found = cuda_memory.addresses(tensor)
    assert found.__array_interface__["data"][0] == tensor.data_ptr()
    assert (found.shape, found.strides) == ((2, 3, 4), (48, 16, 4))
    part = cuda_memory.addresses(cuda_memory.part(tensor, (3, 4), "float32", 48))
    assert np.may_share_memory(found, part)
    assert not np.may_share_memory(part, cuda_memory.addresses(tensor)[0])


@pytest.mark.parametrize("writeable", [True, False])
def test_capsule_says_whether_it_may_be_written_to(writeable):
    array = np.zeros(4)
    array.flags.writeable = writeable
    assert cuda_memory.is_read_only(array.__dlpack__(max_version=(1, 0))) is not writeable


def test_old_capsule_cannot_say_that_it_may_be_written_to():
    assert cuda_memory.is_read_only(np.zeros(4).__dlpack__())
    assert cuda_memory.is_read_only(None)


@pytest.mark.parametrize(("offset", "direct"), [(0, True), (4, False), (16, True)])
def test_kernels_need_aligned_memory(tensor, offset, direct):
    assert cuda_memory.is_direct(cuda_memory.part(tensor, (2, 4), "float32", offset)) is direct
