"""The setting itself; what it does to a process is in test_processes."""

import numpy as np
import pytest

from tvm_conv3dt import errors, runtime, threads


@pytest.fixture(autouse=True)
def default_afterwards():
    yield
    runtime.set_num_threads(None)


def test_default_is_what_the_process_may_use():
    assert runtime.get_num_threads() == threads.available()


@pytest.mark.parametrize("count", [1, np.int64(1)])
def test_setting_is_returned(count):
    runtime.set_num_threads(count)
    assert runtime.get_num_threads() == 1
    assert type(runtime.get_num_threads()) is int


def test_none_sets_the_default():
    runtime.set_num_threads(1)
    runtime.set_num_threads(None)
    assert runtime.get_num_threads() == threads.available()


@pytest.mark.parametrize("count", [0, -1, 10**6, 2**70])
def test_number_out_of_range_is_refused(count):
    with pytest.raises(errors.DeviceError, match=r"failed to set threads with count=.*from 1 to"):
        runtime.set_num_threads(count)
    assert runtime.get_num_threads() == threads.available()


@pytest.mark.parametrize("count", [True, 1.0, "2", [1], np.zeros(2)], ids=str)
def test_number_of_another_type_is_refused(count):
    with pytest.raises(errors.ArgumentTypeError, match="must be an integer or None"):
        runtime.set_num_threads(count)
