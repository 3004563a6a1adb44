"""One workload compiled: functions, lowering, and the shared library."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import tvm
from tvm import s_tir, tirx

from tvm_conv3dt import tile_state
from tvm_conv3dt.compiler.amx import tile_intrinsics
from tvm_conv3dt.compiler.cuda_modules import cuda_compiler
from tvm_conv3dt.compiler.cuda_pipeline import CUDA
from tvm_conv3dt.compiler.definition import AnyLayout, define
from tvm_conv3dt.compiler.dot_layout import DotLayout
from tvm_conv3dt.compiler.fragments import fragments
from tvm_conv3dt.compiler.gemm_layout import GemmLayout
from tvm_conv3dt.compiler.intrinsics import lane_sums, turned_pairs, woven
from tvm_conv3dt.compiler.linker import link
from tvm_conv3dt.compiler.mmla import mmla_intrinsics
from tvm_conv3dt.compiler.mmla_layout import MmlaLayout
from tvm_conv3dt.compiler.packing import define_packing
from tvm_conv3dt.compiler.pipeline import CPU, place_buffers
from tvm_conv3dt.compiler.tap_layout import TapLayout
from tvm_conv3dt.compiler.target import host_of, target_of
from tvm_conv3dt.compiler.tile_layout import TileLayout
from tvm_conv3dt.compiler.unit_layout import DEPTH, SQUARE
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import CompileError, Conv3dtError, describe
from tvm_conv3dt.gpu import KernelResources
from tvm_conv3dt.spec import Workload

__all__ = [
    "GpuCode",
    "Kernel",
    "compile_kernel",
    "export",
    "new_schedule",
    "pack_symbol",
    "register_intrinsics",
]


@dataclass(frozen=True)
class GpuCode:
    """What is particular to code for a GPU.

    Attributes
    ----------
    resources : tuple of KernelResources
        What its functions take.
    toolkit : str
        Version of the CUDA toolkit that compiled it: ``"13.0"``.
    pack_imports : callable
        What puts the machine code into a library: for TVM's ``export_library``.
    """

    resources: tuple[KernelResources, ...]
    toolkit: str
    pack_imports: Any


@dataclass(frozen=True)
class Kernel:
    """A compiled workload.

    Attributes
    ----------
    module
        TVM's module with the functions ``run`` (named by the workload's id) and ``pack``.
    packed_shape : tuple of int
        Shape of the packed filters.
    packed_dtype : str
        Its dtype.
    workspace_bytes : int
        Memory that one run takes besides its arguments, all threads together.
    gpu : GpuCode or None
        What the code for a GPU takes.
    """

    workload: Workload
    device: Device
    module: Any
    packed_shape: tuple[int, ...]
    packed_dtype: str
    workspace_bytes: int
    gpu: GpuCode | None = None

    def run(self, *arguments: Any) -> None:
        """Call the operator with ``(x, packed, [bias,] y)``; raises as `tile_state.request`."""
        self._function(self.workload.id)(*arguments)

    def pack(self, *arguments: Any) -> None:
        """Call the packing with ``(filters, packed)``; raises as `run`."""
        self._function(pack_symbol(self.workload))(*arguments)

    def _function(self, name: str) -> Any:
        tile_state.request(self.device.cpu_features)
        return self.module[name]


def pack_symbol(workload: Workload) -> str:
    """Return the name of the packing function of `workload`."""
    return f"{workload.id}_pack"


def new_schedule(layout: AnyLayout) -> s_tir.Schedule:
    """Return a fresh schedule of an operator, nothing decided."""
    register_intrinsics(layout)
    return s_tir.Schedule(define(layout, layout.workload.id))


def register_intrinsics(layout: AnyLayout) -> None:
    """Make those tensor intrinsics known to TVM that a trace of a layout names."""
    if isinstance(layout, DotLayout):
        lane_sums(layout.lanes, layout.outputs, layout.workload.sum_dtype)
    if isinstance(layout, GemmLayout) and layout.matrix_units:
        fragments()
    if isinstance(layout, TapLayout):
        turned_pairs(DEPTH // 2, SQUARE, layout.packed_dtype)
        if layout.outputs > 1:
            woven(SQUARE, layout.outputs)
    if isinstance(layout, MmlaLayout):
        for scalar in (False, True):
            mmla_intrinsics(scalar)
    if isinstance(layout, TapLayout | TileLayout):
        for scalar in (False, True):
            tile_intrinsics(layout.squares, layout.column_squares, scalar)


def compile_kernel(layout: AnyLayout, device: Device, schedule: s_tir.Schedule) -> Kernel:
    """Compile a scheduled operator, and its packing, for `device`.

    Raises
    ------
    CompileError
        If TVM does not take it.
    """
    workload = layout.workload
    symbol = pack_symbol(workload)
    functions = {
        workload.id: next(iter(schedule.mod.functions.values())),
        symbol: define_packing(layout, symbol),
    }
    module, workspace_bytes, gpu = _compile(tvm.IRModule(functions), device, layout)
    return Kernel(
        workload=workload,
        device=device,
        module=module,
        packed_shape=layout.packed_shape,
        packed_dtype=layout.packed_dtype,
        workspace_bytes=workspace_bytes,
        gpu=gpu,
    )


def export(kernel: Kernel, path: Path) -> None:
    """Write a kernel as the shared library `path`."""

    def fcompile(output: str, objects: list[str], **_: Any) -> None:
        link(objects, Path(output), host_of(kernel.device))

    options = {} if kernel.gpu is None else {"fpack_imports": kernel.gpu.pack_imports}
    with tempfile.TemporaryDirectory() as folder:
        kernel.module.export_library(str(path), fcompile=fcompile, workspace_dir=folder, **options)


def _compile(
    functions: tvm.IRModule, device: Device, layout: AnyLayout
) -> tuple[Any, int, GpuCode | None]:
    """Return the module, the workspace's bytes and what is particular to a GPU."""
    target, symbol = target_of(device, layout.unswitched, layout.unrolled), layout.workload.id
    try:
        if device.kind != "cuda":
            functions = place_buffers(functions)
            module = tvm.compile(functions, target=target, tir_pipeline=CPU)
            return module, _workspace_bytes(functions[symbol], device.cores), None
        with cuda_compiler(device.arch) as build:
            module = tvm.compile(functions, target=target, tir_pipeline=CUDA)
    except (ValueError, RuntimeError, TypeError) as error:
        if isinstance(error, Conv3dtError):
            raise
        raise CompileError(
            describe("compile", "workload", symbol, str(error).strip().splitlines()[-1])
        ) from error
    # What is not global is the multiprocessors' own.
    workspace_bytes = _workspace_bytes(functions[symbol], threads=1)
    return module, workspace_bytes, GpuCode(build.resources, build.toolkit, build.pack_imports)


def _workspace_bytes(part: Any, threads: int) -> int:
    """Bytes of the buffers that a part of a function allocates when they have their places: in its parallel tasks once per thread.

    Those of statements that follow each other are the same memory.
    """
    if isinstance(part, tirx.PrimFunc | s_tir.SBlock):
        own = 0 if isinstance(part, tirx.PrimFunc) else sum(map(_bytes_of, part.alloc_buffers))
        return own + _workspace_bytes(part.body, threads)
    if isinstance(part, s_tir.SBlockRealize):
        return _workspace_bytes(part.block, threads)
    if isinstance(part, tirx.For):
        parallel = part.kind == tirx.ForKind.PARALLEL
        return _workspace_bytes(part.body, threads) * (threads if parallel else 1)
    if isinstance(part, tirx.IfThenElse):
        cases = [part.then_case, part.else_case]
        return max(_workspace_bytes(each, threads) for each in cases if each is not None)
    steps = part.seq if isinstance(part, tirx.SeqStmt) else []
    return max((_workspace_bytes(each, threads) for each in steps), default=0)


def _bytes_of(buffer: Any) -> int:
    """Bytes of a buffer, strides counted in; none of one in registers."""
    if buffer.scope() != "global":
        return 0
    strides = [*buffer.strides]
    elements = int(buffer.shape[0]) * int(strides[0]) if strides else prod(map(int, buffer.shape))
    return elements * int(tvm.DataType(buffer.dtype).bits) // 8
