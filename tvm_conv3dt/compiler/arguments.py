"""The arguments of a function: their alignment.

TVM assumes 64-byte-aligned data and emits aligned moves. An ordinary NumPy array is aligned to 16
bytes, a slice of one to its element: passing those would crash the process. So every array that a
caller owns is declared as aligned to its elements only; on the CPUs of the last decade unaligned moves of
aligned data cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import tvm
from tvm import tirx

from tvm_conv3dt.compiler.expressions import replaced

__all__ = ["element_aligned"]


def element_aligned(function: tirx.PrimFunc, names: Iterable[str]) -> tirx.PrimFunc:
    """Return `function` with the arguments called `names` aligned to one element, not 64 bytes."""
    wanted = set(names)
    pairs = [
        (
            p,
            tirx.decl_buffer(
                p.shape, p.dtype, p.name, data_alignment=tvm.DataType(p.dtype).bits // 8
            ),
        )
        for p in function.params
        if p.name in wanted
    ]
    return replaced(function, pairs)
