"""Tile registers of a CPU's matrix unit, set up by each task of a lowered function, and given back by it.

A thread whose registers are in use costs the system more at every switch; and other libraries in the process set them up as
they need them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm_ffi
from tvm import ir, tirx

from tvm_conv3dt.compiler.amx import ROW_BYTES
from tvm_conv3dt.compiler.amx_instructions import CLEAR, instruction, uses
from tvm_conv3dt.compiler.unit_layout import REGISTERS, SQUARE

__all__ = ["CONFIGURATION_BYTES", "REGISTER_ROWS", "configuration", "configure_tiles"]

REGISTER_ROWS = "conv3d_transpose.register_rows"
"""Annotation of a block, then attribute of the function: the rows of each register, where they are not all a square's."""

CONFIGURATION_BYTES = 64


def configure_tiles(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Let each task of a lowered function set up the tile registers at its start, and give them back at its end.

    Memory for sums is allocated once per task, too.
    """
    if not _has_tiles(function.body):
        return function
    configured = False
    rows = (function.attrs or {}).get(REGISTER_ROWS, [SQUARE] * REGISTERS)
    settings = configuration([int(each) for each in rows])

    def task(loop: tirx.For) -> Any:
        nonlocal configured
        if loop.kind != tirx.ForKind.PARALLEL or not _has_tiles(loop):
            return loop
        configured = True
        body = _configured(loop.body, settings)
        return tirx.For(
            loop.loop_var, loop.min, loop.extent, loop.kind, body, None, loop.annotations
        )

    body = tvm_ffi.structural_map(function.body, (tirx.For, task))
    if not configured:  # a single task is no loop any more
        body = _configured(body, settings)
    return tirx.PrimFunc(function.params, body, function.ret_type, function.attrs)


def _configured(task: Any, settings: npt.NDArray[np.uint8]) -> tirx.SeqStmt:
    body, scratch = _without_scratch(task)
    configuration = tirx.decl_buffer(
        (CONFIGURATION_BYTES,), "uint8", "configuration", scope="local"
    )
    return tirx.SeqStmt(
        [
            *(tirx.AllocBuffer(each) for each in (*scratch, configuration)),
            *_configure(configuration, settings),
            body,
            tirx.Evaluate(instruction("tilerelease")),
        ]
    )


def configuration(rows: Sequence[int] = (SQUARE,) * REGISTERS) -> npt.NDArray[np.uint8]:
    """Return what ``ldtilecfg`` reads to set up registers of so many rows of 64 bytes, in Intel's layout."""
    found = np.zeros(CONFIGURATION_BYTES, np.uint8)
    found[0] = 1  # the palette
    found[16 : 16 + 2 * REGISTERS].view(np.uint16)[:] = ROW_BYTES
    found[48 : 48 + REGISTERS] = rows
    return found


def _configure(memory: Any, settings: npt.NDArray[np.uint8]) -> list[Any]:
    stores: list[Any] = [
        tirx.BufferStore(memory, tirx.const(int(value), "uint8"), [tirx.const(place, "int32")])
        for place, value in enumerate(settings)
    ]
    return [*stores, tirx.Evaluate(instruction("ldtilecfg", tirx.address_of(memory[0])))]


def _has_tiles(part: Any) -> bool:
    """Whether a part of a function clears tile registers, as all that use them do."""
    return uses(part, CLEAR, really=True)


def _without_scratch(body: Any) -> tuple[Any, list[Any]]:
    """Return a body without its allocations of local arrays, and those of them that are used."""
    allocated: list[Any] = []
    used: set[Any] = set()

    def allocation(each: tirx.AllocBuffer) -> None:
        if each.buffer.scope() == "local":
            allocated.append(each.buffer)

    def load(each: ir.TensorLoad) -> None:
        used.add(each.source)

    def store(each: tirx.BufferStore) -> None:
        used.add(each.buffer)

    tvm_ffi.structural_walk(body, (tirx.AllocBuffer, allocation))
    tvm_ffi.structural_walk(body, [(ir.TensorLoad, load), (tirx.BufferStore, store)])

    def remove(each: tirx.AllocBuffer) -> Any:
        return tirx.Evaluate(0) if each.buffer.scope() == "local" else each

    kept = [each for each in allocated if each in used]
    return tvm_ffi.structural_map(body, (tirx.AllocBuffer, remove)), kept
