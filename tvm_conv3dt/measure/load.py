"""What tells how fast this machine is: a matrix product, copies and writes, each something to time with its work.

NumPy and the C library do all of it.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from concurrent.futures import Executor, wait

import numpy as np

from tvm_conv3dt.spec import Workload

__all__ = [
    "BFLOAT16",
    "FMA",
    "MATRIX",
    "MOVE",
    "Load",
    "copy",
    "loads",
    "move",
    "sgemm",
    "write",
    "written_bytes",
]

FMA = "fma"
"""The name, among loads, of the kernel that does nothing but multiply and add."""

MATRIX = "matrix"
"""The name, among loads, of the same on a GPU's tensor cores."""

BFLOAT16 = "bfloat16"
"""The name, among loads, of bfloat16 products on a CPU's matrix unit."""

MOVE = "move "
"""Begins the names of loads that are `move`; then comes the workload's id."""

_PRODUCT = 2048
_VOLUME = 96 << 20
# What a thread moves at least: a few microseconds of work are lost among calls. Half a core's own cache.
_LEAST_PART = 512 << 10
# What is moved in one call at least: a smaller move is over before threads have woken up, so it is repeated.
_LEAST_CALL = 64 << 20

_LIBC = ctypes.CDLL(None)

_Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]

Load = tuple[Callable[[], object], int]
"""Something to time, and the operations or bytes of one call."""


def loads(pool: Executor, threads: int) -> dict[str, Load]:
    """Return what is to be timed whatever the workload, by the names that `Ceilings.of` knows."""
    return {
        "product": sgemm(),
        "copy": copy(pool, threads),
        "write": write(pool, threads),
    }


def sgemm(size: int = _PRODUCT) -> Load:
    """Return a single-precision matrix product to time beside kernels.

    Parameters
    ----------
    size : int
        Rows and columns of the three matrices.

    Returns
    -------
    tuple of (callable, int)
        The product, written to memory that is reused; and its operations.
    """
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    c = np.zeros((size, size), np.float32)
    return (lambda: np.matmul(a, b, out=c)), 2 * size**3


def copy(pool: Executor, parts: int, size: int = _VOLUME) -> Load:
    """Return a copy from memory to memory to time beside kernels.

    Parameters
    ----------
    pool : Executor
        Copies the parts; NumPy lets them run at once.
    parts : int
        Into how many pieces the copy is cut.
    size : int
        Bytes of the source.

    Returns
    -------
    tuple of (callable, int)
        The copy, to memory that is reused; and the bytes that it reads and writes.
    """
    source = np.ones(size // 8, np.float64)
    target = np.zeros_like(source)
    pieces = list(zip(np.array_split(target, parts), np.array_split(source, parts), strict=True))

    def run() -> None:
        wait([pool.submit(np.copyto, *piece) for piece in pieces])

    return run, 2 * source.nbytes


def write(pool: Executor, parts: int, size: int = _VOLUME) -> Load:
    """Return the filling of memory to time beside kernels.

    Parameters
    ----------
    pool : Executor
        Fills the parts; ctypes lets them run at once.
    parts : int
        Into how many pieces the memory is cut.
    size : int
        Its bytes.

    Returns
    -------
    tuple of (callable, int)
        The filling, of memory that is reused; and its bytes.
    """
    target = np.ones(size // 8, np.float64)
    pieces = np.array_split(target, parts)

    def run() -> None:
        # The C library's own way to write, which avoids reading what it overwrites.
        wait([pool.submit(ctypes.memset, piece.ctypes.data, 1, piece.nbytes) for piece in pieces])

    return run, target.nbytes


def move(pool: Executor, parts: int, workload: Workload) -> dict[str, Load]:
    """Return the moving of as many bytes as a workload reads and writes, to time beside kernels.

    It needs no idea of the caches, whose sizes a virtual machine may report and not have: what so many bytes find
    room in decides. As much as possible is copied; of what is left over, a surplus of output is filled, and one of input
    is searched for a byte that is not there.

    Parameters
    ----------
    pool : Executor
        Moves the parts; ctypes lets them run at once.
    parts : int
        Into how many pieces the memory is cut.
    workload : Workload
        Whose bytes are moved; where they are very few, more of them in the same proportion.

    Returns
    -------
    dict of str to Load
        One, by the name that `Ceilings.of` knows.
    """
    written = written_bytes(workload)
    sizes = (workload.bytes - written, written)
    scale = math.ceil(parts * _LEAST_PART / workload.bytes)
    passes = math.ceil(_LEAST_CALL / (workload.bytes * scale))
    read, written = (size * scale for size in sizes)
    source, target = np.ones(read, np.uint8), np.ones(written, np.uint8)
    both = min(read, written)
    pieces = list(
        zip(
            np.array_split(target[:both], parts),
            np.array_split(source[:both], parts),
            np.array_split(target[both:], parts),
            np.array_split(source[both:], parts),
            strict=True,
        )
    )

    def run() -> None:
        done = [pool.submit(_move_part, passes, *piece) for piece in pieces]
        for each in done:
            each.result()

    return {MOVE + workload.id: (run, (read + written) * passes)}


def _move_part(passes: int, to: _Bytes, by: _Bytes, filled: _Bytes, searched: _Bytes) -> None:
    # The C library's own ways, all over the machine's widest registers.
    copied = (to.ctypes.data, by.ctypes.data, to.nbytes)
    fill = (filled.ctypes.data, 1, filled.nbytes)
    search = (ctypes.c_void_p(searched.ctypes.data), 0, ctypes.c_size_t(searched.nbytes))
    for _ in range(passes):
        if to.nbytes:
            ctypes.memmove(*copied)
        if filled.nbytes:
            ctypes.memset(*fill)
        if searched.nbytes:
            _LIBC.memchr(*search)


def written_bytes(workload: Workload) -> int:
    """Return the bytes of a workload's output."""
    return math.prod(workload.output_shape) * workload.itemsize
