"""Is the kernel asked once for the matrix unit's registers, and its refusal told in words?"""

import errno
import platform
import subprocess
import sys
from functools import partial

import pytest
from sandbox import needs_filters, needs_unit, without_tiles

from tvm_conv3dt import tile_state
from tvm_conv3dt.errors import PlatformError


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


REQUEST, GET = 0x1023, 0x1022


@pytest.fixture
def calls(monkeypatch):
    """Makes this x86-64 with a kernel that answers each call; returns the list of calls."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")

    def answers(**numbers):
        seen = []

        def answer(option, argument):
            seen.append((option, argument) if option == REQUEST else option)
            return numbers["request" if option == REQUEST else "get"]

        monkeypatch.setattr(tile_state, "_arch_prctl", answer)
        return seen

    return answers


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM, errno.ENOSPC])
def test_kernel_that_refuses_is_not_asked_what_it_granted(calls, number):
    seen = calls(request=number)
    assert tile_state._ask() == number
    assert seen == [(REQUEST, 18)]


def test_kernel_that_agrees_is_asked_what_it_granted(calls):
    seen = calls(request=0, get=0)
    assert tile_state._ask() == errno.EPERM  # nothing: it wrote no mask
    assert seen == [(REQUEST, 18), GET]


def test_kernel_that_does_not_say_what_it_granted_refuses(calls):
    calls(request=0, get=errno.EINVAL)
    assert tile_state._ask() == errno.EINVAL


@pytest.mark.parametrize(
    ("system", "machine"), [("Linux", "aarch64"), ("Darwin", "x86_64"), ("Windows", "AMD64")]
)
def test_other_systems_are_not_called(calls, monkeypatch, system, machine):
    seen = calls(request=0)
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert tile_state._ask() == errno.EOPNOTSUPP
    assert seen == []


def program_prints(code, **options):
    """What a fresh process prints that runs a program."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, **options
    )
    return done.stdout


@needs_filters
@pytest.mark.parametrize("answer", [errno.EPERM, errno.ENOSYS, 0])
def test_sandbox_is_told_as_such(answer):
    code = "from tvm_conv3dt import tile_state; print(tile_state._ask())"
    said = program_prints(code, preexec_fn=partial(without_tiles, answer))
    assert int(said) in {answer or errno.EPERM, errno.EINVAL}  # the last where the kernel is old


@needs_unit
def test_fork_inherits_the_permission():
    code = """
import os
from tvm_conv3dt import tile_state

tile_state.request(["amx_tile"])
child = os.fork()
if child == 0:
    tile_state.request(["amx_tile"])
    tile_state.refusal.cache_clear()
    os._exit(tile_state._ask())
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert program_prints(code) == "0\n"


@needs_unit
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
    assert program_prints(code).split() == ["0", "1"]
