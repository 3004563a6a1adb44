"""Numbers and channels as they stand in memory, and as kernels compute with them.

float32 and float64 are computed as they stand. The half types are added in float32: each number is widened when
it is read and rounded, to the nearest and ties to even, when a result is stored. A bfloat16 is the upper half of a
float32; compiled code takes it as a uint16.

Kernels compute with channels last. Where a workload has them first, rows are turned on the way: see
`tvm_conv3dt.compiler.turning`.
"""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import tirx

from tvm_conv3dt.compiler.sharing import shared
from tvm_conv3dt.spec import Workload

__all__ = [
    "STORED_BFLOAT16",
    "array_shape",
    "index_of",
    "narrow",
    "stored_dtype",
    "turns",
    "widen",
]

STORED_BFLOAT16 = "uint16"
"""What compiled code takes a bfloat16 as: its bits."""

_UPPER_HALF = 16


def stored_dtype(workload: Workload) -> str:
    """Return the dtype that arguments of a kernel are declared with."""
    return STORED_BFLOAT16 if workload.dtype == "bfloat16" else workload.dtype


def array_shape(sizes: tuple[int, ...]) -> list[Any]:
    """Return the shape of an argument; of one of 2**31 elements or more in 64 bits, so that offsets into it are."""
    index = "int32" if prod(sizes) < 2**31 else "int64"
    return [tirx.const(size, index) for size in sizes]


def index_of(workload: Workload, n: Any, d: Any, h: Any, w: Any, c: Any) -> list[Any]:
    """Return an element's index in the order of the workload's format."""
    return [n, d, h, w, c] if workload.data_format == "NDHWC" else [n, c, d, h, w]


def turns(workload: Workload, channels: int) -> bool:
    """Whether an array of so many channels has them in another order than the one kernels compute in."""
    return workload.data_format == "NCDHW" and channels > 1


def widen(value: Any, stored: str, lanes: int = 1) -> Any:
    """Return an element of a stored dtype, or a vector of them, as what kernels compute with."""
    if stored == STORED_BFLOAT16:
        bits = tirx.Cast(_vector("int32", lanes), value)
        shifted = bits << _constant(_UPPER_HALF, lanes)
        return tirx.reinterpret(_vector("float32", lanes), shifted)
    if stored == "float16":
        return tirx.Cast(_vector("float32", lanes), value)
    return value


def narrow(value: Any, stored: str, lanes: int = 1, cast: bool = False) -> Any:
    """Return a computed element, or a vector of them, as one of a stored dtype.

    `cast` leaves bfloat16 to `tvm_conv3dt.compiler.rounding`, which knows of instructions.
    """
    if stored == STORED_BFLOAT16 and cast:
        rounded = tirx.Cast(_vector("bfloat16", lanes), value)
        return tirx.reinterpret(_vector(STORED_BFLOAT16, lanes), rounded)
    if stored == STORED_BFLOAT16:
        return _to_bfloat16(value, lanes)
    if stored == "float16":
        return tirx.Cast(_vector("float16", lanes), value)
    return value


def _to_bfloat16(value: Any, lanes: int) -> Any:
    def number(constant: int) -> Any:
        return _constant(constant, lanes)

    def rounded(bits: Any) -> Any:
        upper, lower = bits >> number(_UPPER_HALF), bits & number(0xFFFF)
        # Half less one, and one more where that makes a tie even. No sum may overflow: LLVM is told that none does.
        nearest = upper + ((lower + number(0x7FFF) + (upper & number(1))) >> number(_UPPER_HALF))
        # That carries a NaN's bits into an infinity or a zero. All ones where there is one, and no condition, of which TVM
        # would make a jump.
        is_nan = (number(0x7F800000) - (bits & number(0x7FFFFFFF))) >> number(31)
        quiet = upper | number(0x40)
        return nearest ^ ((nearest ^ quiet) & is_nan)

    integer = _vector("int32", lanes)
    result = shared("bits", integer, tirx.reinterpret(integer, value), rounded)
    return tirx.Cast(_vector(STORED_BFLOAT16, lanes), result)


def _vector(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def _constant(number: int, lanes: int) -> Any:
    scalar = tirx.const(number, "int32")
    return scalar if lanes == 1 else tirx.Broadcast(scalar, lanes)
