"""The registers of a CPU's matrix unit (Intel's AMX), which a process may use when it has asked the kernel.

Linux keeps 8 KB more for each thread that uses them, and lets only those processes that ask, once, for all of their threads. A
fork inherits the permission, a new program does not. The calls are those of Linux' ``Documentation/arch/x86/xstate.rst``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Iterable
from functools import cache

from tvm_conv3dt.errors import PlatformError, describe

__all__ = ["FEATURE", "refusal", "request"]

FEATURE = "amx_tile"
"""The CPU feature of code that needs them."""

_SYS_ARCH_PRCTL = 158  # on x86_64; it is another call elsewhere
_ARCH_GET_XCOMP_PERM = 0x1022
_ARCH_REQ_XCOMP_PERM = 0x1023
_TILE_DATA = 18

_REASONS = {
    errno.EINVAL: "this kernel is older than Linux 5.16",
    errno.ENOSYS: "this kernel is older than Linux 5.16",
    errno.EOPNOTSUPP: "this CPU or kernel has no such registers",
    errno.EPERM: "the process is not allowed to ask, by a filter of system calls",
    errno.ENOSPC: "a thread has an alternate signal stack that is too small for them",
}


def request(cpu_features: Iterable[str]) -> None:
    """Ask the kernel for the registers, where code that uses `cpu_features` is about to run.

    Raises
    ------
    PlatformError
        If the code needs them and the kernel refuses.
    """
    if FEATURE in cpu_features and (reason := refusal()):
        mend = "take code for another device, such as x86-64-v4"
        raise PlatformError(describe("use", "matrix unit", FEATURE, reason, mend))


@cache
def refusal() -> str:
    """Ask the kernel for the registers, once per process, and return why it refuses; nothing where it does not."""
    number = _ask()
    if not number:
        return ""
    reason = _REASONS.get(number, os.strerror(number))
    return f"the kernel refuses its registers: {reason}"


def _ask() -> int:
    """Return the number of the error, or 0."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return errno.EOPNOTSUPP
    if number := _arch_prctl(_ARCH_REQ_XCOMP_PERM, _TILE_DATA):
        return number
    # A sandbox may let a call succeed that it never made.
    permitted = ctypes.c_ulong()
    if number := _arch_prctl(_ARCH_GET_XCOMP_PERM, ctypes.addressof(permitted)):
        return number
    return 0 if permitted.value >> _TILE_DATA & 1 else errno.EPERM


def _arch_prctl(option: int, argument: int) -> int:
    """Call the kernel; return the number of the error, or 0."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    libc.syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_ulong]
    return ctypes.get_errno() if libc.syscall(_SYS_ARCH_PRCTL, option, argument) else 0
