"""A process whose kernel refuses the registers of matrix units, as sandboxes do."""

import ctypes
import platform
import struct
import sys

import pytest

from tvm_conv3dt import cpu, device, tile_state

UNIT = device.get("x86-64-v4-amx")

HAS_UNIT = cpu.features().issuperset(UNIT.cpu_features) and not tile_state.refusal()
"""Whether code for `UNIT` runs here."""

needs_unit = pytest.mark.skipif(not HAS_UNIT, reason="this machine has no matrix unit")
needs_filters = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="the filter is one of Linux' system calls on x86-64",
)

_NO_NEW_PRIVILEGES, _SET_FILTER, _FILTER_MODE = 38, 22, 2  # prctl's
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # of the filter's machine
_NUMBER, _FIRST_ARGUMENT = 0, 16  # offsets of what it sees of a call
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000


def without_tiles(answer: int) -> None:
    """Let the kernel answer with the number of an error, for the rest of this process, when it is asked for tile data.

    With 0 it says that it grants what it does not. As ``preexec_fn=partial(without_tiles, errno.EPERM)`` of a process.
    """
    steps = [
        (_LOAD, 0, 0, _NUMBER),
        (_IF_EQUAL, 0, 3, 158),  # arch_prctl, else the last
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_IF_EQUAL, 0, 1, 0x1023),  # ARCH_REQ_XCOMP_PERM, else the last
        (_RETURN, 0, 0, _FAIL | answer),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    assert libc.prctl(_SET_FILTER, _FILTER_MODE, program, 0, 0) == 0, ctypes.get_errno()
