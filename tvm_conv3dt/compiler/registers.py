"""Register tiles as variables of their own.

TVM puts local buffers on the heap, on CPUs, and of all others those of 1 KB or more. LLVM keeps the values in
registers while the loops run, but stores all of them when these end and loads them again. A buffer of one
vector is on the stack, and vanishes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import tvm_ffi
from tvm import ir, tirx

__all__ = ["split_registers"]

_ADDRESS_OF = ir.Op.get("tirx.address_of")


def split_registers(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Split the local buffers of a lowered, unrolled function that are only used at constant places."""
    places: dict[Any, list[Any]] = {}  # of each access to a buffer
    mentions: Counter[Any] = Counter()

    def allocated(each: tirx.AllocBuffer) -> None:
        if each.buffer.scope() == "local":
            places[each.buffer] = []

    def load(each: ir.TensorLoad) -> None:
        if each.source in places:
            places[each.source].append(each.indices)

    def store(each: tirx.BufferStore) -> None:
        if each.buffer in places:
            places[each.buffer].append(each.indices)

    def addressed(each: ir.Call) -> None:
        # More than the one element is then used.
        if each.op.same_as(_ADDRESS_OF):
            mentions[each.args[0].source] += 1

    def mentioned(each: tirx.Var) -> None:
        mentions[each] += 1

    tvm_ffi.structural_walk(function, (tirx.AllocBuffer, allocated))
    tvm_ffi.structural_walk(
        function,
        [
            (ir.TensorLoad, load),
            (tirx.BufferStore, store),
            (ir.Call, addressed),
            (tirx.Var, mentioned),
        ],
    )
    # A buffer that is mentioned elsewhere than where it is allocated and used has another name too.
    constant = {
        buffer: {int(indices[0]) for indices in found}
        for buffer, found in places.items()
        if found and mentions[buffer] == len(found) + 1 and all(map(_is_constant, found))
    }
    registers = {
        buffer: {
            place: tirx.decl_buffer((1,), buffer.dtype, f"{buffer.name}_{place}")
            for place in sorted(found)
        }
        for buffer, found in constant.items()
    }
    first = tirx.const(0, "int32")

    def allocate(each: tirx.AllocBuffer) -> Any:
        if each.buffer not in registers:
            return each
        parts = [tirx.AllocBuffer(register) for register in registers[each.buffer].values()]
        return parts[0] if len(parts) == 1 else tirx.SeqStmt(parts)

    def read(each: ir.TensorLoad) -> Any:
        if each.source not in registers:
            return each
        return tirx.BufferLoad(registers[each.source][int(each.indices[0])], [first])

    def write(each: tirx.BufferStore) -> Any:
        if each.buffer not in registers:
            return each
        target = registers[each.buffer][int(each.indices[0])]
        return tirx.BufferStore(target, each.value, [first])

    return tvm_ffi.structural_map(
        function,
        [(tirx.AllocBuffer, allocate), (ir.TensorLoad, read), (tirx.BufferStore, write)],
    )


def _is_constant(indices: Any) -> bool:
    return len(indices) == 1 and isinstance(indices[0], tirx.IntImm)
