"""The arguments of a function: their alignment, and buffers in place of others.

TVM assumes 64-byte-aligned data and emits aligned moves. An ordinary NumPy array is aligned to 16
bytes, a slice of one to its element: passing those would crash the process. So every array that a
caller owns is declared as aligned to its elements only; on the CPUs of the last decade unaligned moves of
aligned data cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tvm
import tvm_ffi
from tvm import ir, tirx

__all__ = ["element_aligned", "replace_buffers"]


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
    return replace_buffers(function, pairs)


def replace_buffers(
    function: tirx.PrimFunc, pairs: Sequence[tuple[tirx.Buffer, tirx.Buffer]]
) -> tirx.PrimFunc:
    """Return `function` with the first buffer of each pair replaced everywhere by the second."""

    def replace(var: ir.Var) -> ir.Var:
        return next((new for old, new in pairs if var.same_as(old)), var)

    return tvm_ffi.structural_map(function, (ir.Var, replace))
