"""One workload compiled: functions, lowering, and the shared library."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx

from tvm_conv3dt.compiler.definition import AnyLayout, define
from tvm_conv3dt.compiler.dot_layout import DotLayout
from tvm_conv3dt.compiler.intrinsics import lane_sums
from tvm_conv3dt.compiler.linker import link
from tvm_conv3dt.compiler.packing import define_packing
from tvm_conv3dt.compiler.pipeline import CPU, lower_blocks
from tvm_conv3dt.compiler.target import target_of
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import CompileError, describe
from tvm_conv3dt.spec import Workload

__all__ = ["Kernel", "compile_kernel", "export", "new_schedule", "pack_symbol"]


@dataclass(frozen=True)
class Kernel:
    """A compiled workload.

    Attributes
    ----------
    module
        TVM's module with the functions ``run`` (named by the workload's id) and ``pack``.
    packed_shape : tuple of int
        Shape of the packed filters.
    workspace_bytes : int
        Memory that one run takes besides its arguments, all threads together.
    """

    workload: Workload
    device: Device
    module: Any
    packed_shape: tuple[int, ...]
    workspace_bytes: int

    def run(self, *arguments: Any) -> None:
        """Call the operator with ``(x, packed, [bias,] y)``."""
        self.module[self.workload.id](*arguments)

    def pack(self, *arguments: Any) -> None:
        """Call the packing with ``(filters, packed)``."""
        self.module[pack_symbol(self.workload)](*arguments)


def pack_symbol(workload: Workload) -> str:
    """Return the name of the packing function of `workload`."""
    return f"{workload.id}_pack"


def new_schedule(layout: AnyLayout) -> s_tir.Schedule:
    """Return a fresh schedule of an operator, nothing decided."""
    if isinstance(layout, DotLayout):
        lane_sums(layout.lanes, layout.outputs, layout.workload.sum_dtype)  # a trace names it
    return s_tir.Schedule(define(layout, layout.workload.id))


def compile_kernel(layout: AnyLayout, device: Device, schedule: s_tir.Schedule) -> Kernel:
    """Compile a scheduled operator, and its packing, for `device`.

    Raises
    ------
    CompileError
        If TVM does not take it.
    """
    workload = layout.workload
    symbol = pack_symbol(workload)
    function = next(iter(schedule.mod.functions.values()))
    functions = {
        workload.id: function,
        symbol: define_packing(layout, symbol),
    }
    try:
        module = tvm.compile(tvm.IRModule(functions), target=target_of(device), tir_pipeline=CPU)
    except (ValueError, RuntimeError, TypeError) as error:
        raise CompileError(
            describe("compile", "workload", workload.id, str(error).strip().splitlines()[-1])
        ) from error
    return Kernel(
        workload=workload,
        device=device,
        module=module,
        packed_shape=layout.packed_shape,
        workspace_bytes=_workspace_bytes(function, device),
    )


def export(kernel: Kernel, path: Path) -> None:
    """Write a kernel as the shared library `path`."""

    def fcompile(output: str, objects: list[str], **_: Any) -> None:
        link(objects, Path(output), kernel.device)

    with tempfile.TemporaryDirectory() as folder:
        kernel.module.export_library(str(path), fcompile=fcompile, workspace_dir=folder)


def _workspace_bytes(function: Any, device: Device) -> int:
    """Bytes of the buffers that a scheduled function allocates: in its parallel tasks once per thread."""
    lowered = tvm.ir.transform.Sequential(
        [
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.CompactBufferAllocation(),
        ]
    )(tvm.IRModule({"main": lower_blocks(function)}))["main"]
    in_tasks = 0

    def visit(loop: tirx.For) -> None:
        nonlocal in_tasks
        if loop.kind == tirx.ForKind.PARALLEL:
            in_tasks += _allocated_bytes(loop)

    tvm_ffi.structural_walk(lowered, (tirx.For, visit))
    return _allocated_bytes(lowered) + in_tasks * (device.cores - 1)


def _allocated_bytes(part: Any) -> int:
    """Bytes of the buffers that blocks in a part of a function allocate, registers aside."""
    total = 0

    def visit(block: s_tir.SBlock) -> None:
        nonlocal total
        for buffer in block.alloc_buffers:
            if buffer.scope() == "global":
                itemsize = tvm.DataType(buffer.dtype).bits // 8
                total += itemsize * prod(int(extent) for extent in buffer.shape)

    tvm_ffi.structural_walk(part, (s_tir.SBlock, visit))
    return total
