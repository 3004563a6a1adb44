"""Is the kernel asked once for the matrix unit's registers, and its refusal told in words?"""

import errno
import subprocess
import sys

import pytest

from tvm_conv3dt import device, tile_state
from tvm_conv3dt.errors import PlatformError

HAS_UNIT = tile_state.FEATURE in device.cpu_features()


@pytest.fixture
def kernel(monkeypatch):
    """Makes the kernel answer with the number of an error; returns the list of calls."""

    def answers(number):
        calls = []
        monkeypatch.setattr(tile_state, "_ask", lambda: calls.append(1) or number)
        return calls

    tile_state.refusal.cache_clear()
    yield answers
    tile_state.refusal.cache_clear()


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EINVAL, "older than Linux 5.16"),
        (errno.ENOSYS, "older than Linux 5.16"),
        (errno.EOPNOTSUPP, "this CPU or kernel has no such registers"),
        (errno.EPERM, "by a filter of system calls"),
        (errno.ENOSPC, "alternate signal stack that is too small"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_refusal_is_an_error_that_says_why(kernel, number, reason):
    kernel(number)
    with pytest.raises(PlatformError) as caught:
        tile_state.request(["avx2", "amx_tile"])
    assert str(caught.value).startswith(
        "failed to use matrix unit with amx_tile: the kernel refuses"
    )
    assert reason in str(caught.value)


def test_kernel_is_asked_once(kernel):
    calls = kernel(0)
    for _ in range(3):
        tile_state.request(["amx_tile"])
    assert len(calls) == 1


def test_kernel_is_not_asked_for_code_without_the_unit(kernel):
    calls = kernel(errno.EPERM)
    tile_state.request(["avx512f", "avx512_bf16"])
    assert not calls


@pytest.mark.skipif(not HAS_UNIT, reason="this CPU has no AMX")
def test_permission_is_the_whole_processes():
    """Asked in one thread, the kernel says of another that the process has it."""
    code = """
import ctypes, threading
from tvm_conv3dt import tile_state

def permitted():
    mask = ctypes.c_ulong()
    assert ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(mask)) == 0
    return mask.value >> 18 & 1

before = permitted()
thread = threading.Thread(target=tile_state.request, args=(["amx_tile"],))
thread.start(); thread.join()
print(before, permitted())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1"]
