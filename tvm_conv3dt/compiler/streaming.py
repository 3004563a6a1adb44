"""Stores that pass by the caches, for outputs larger than these.

An ordinary store first reads what it overwrites into a cache; a large output is so moved twice, and takes the place of what
the kernel still needs. TVM has no word for the other kind of store, LLVM has (``!nontemporal``): the stores of a vector
become calls of a small function in LLVM's language, which is inlined. Such stores must be aligned, and whether
the caller's array is shows only at run time: the function looks.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, tirx

__all__ = ["STREAM", "stream_stores"]

STREAM = "conv3d_transpose.stream"
"""Annotation of a block, then attribute of the function: whether stores to ``y`` pass by the caches."""


def stream_stores(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Turn the vector stores to the last argument of a lowered function with the attribute into streaming ones."""
    if not int((function.attrs or {}).get(STREAM, 0)):
        return function
    y = function.params[-1]
    seen: set[tuple[str, int]] = set()

    def store(each: tirx.BufferStore) -> Any:
        (index,) = each.indices
        if each.buffer.name != y.name or not isinstance(index, tirx.Ramp) or int(index.stride) != 1:
            return each
        lanes = int(index.lanes)
        kind = (str(each.buffer.dtype), lanes)
        seen.add(kind)
        address = tirx.address_of(tirx.BufferLoad(each.buffer, [index.base]))
        return tirx.Evaluate(tirx.call_extern("void", _name(*kind), address, each.value))

    def fence(loop: tirx.For) -> Any:
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        body = tirx.SeqStmt([loop.body, tirx.Evaluate(tirx.call_extern("void", _FENCE))])
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)

    body = tvm_ffi.structural_map(function.body, [(tirx.BufferStore, store), (tirx.For, fence)])
    if not seen:
        return function
    code = "".join(_code(*kind) for kind in sorted(seen)) + _FENCE_CODE
    body = tirx.AttrStmt(tirx.const(0, "int32"), "pragma_import_llvm", ir.StringImm(code), body)
    return function.with_body(body)


_FENCE = "conv3d_transpose_fence"
# Whoever waits for the task must find what it stored.
_FENCE_CODE = f"""
declare void @llvm.x86.sse.sfence()
define void @{_FENCE}() {{
  call void @llvm.x86.sse.sfence()
  ret void
}}
!0 = !{{i32 1}}
"""


# LLVM's names of element types, and their bytes.
_TYPES = {
    "float32": ("float", 4),
    "float64": ("double", 8),
    "float16": ("half", 2),
    "uint16": ("i16", 2),
}


def _name(dtype: str, lanes: int) -> str:
    return f"conv3d_transpose_stream_{dtype}x{lanes}"


def _code(dtype: str, lanes: int) -> str:
    element, itemsize = _TYPES[dtype]
    size = itemsize * lanes
    return f"""
define void @{_name(dtype, lanes)}(ptr %address, <{lanes} x {element}> %value) {{
  %number = ptrtoint ptr %address to i64
  %rest = and i64 %number, {size - 1}
  %aligned = icmp eq i64 %rest, 0
  br i1 %aligned, label %streaming, label %ordinary
streaming:
  store <{lanes} x {element}> %value, ptr %address, align {size}, !nontemporal !0
  ret void
ordinary:
  store <{lanes} x {element}> %value, ptr %address, align {itemsize}
  ret void
}}
"""
