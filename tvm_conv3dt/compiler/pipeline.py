"""Lowering for CPUs: TVM's own passes, and ours.

TVM's default pipeline is for every kind of device, and narrows all index arithmetic to 32 bits. Where an index has
a negative part (a tap before the first position) LLVM then cannot fold it into an address and extends the
sign of every one, beside each multiplication. Here the offsets into arrays are 64-bit, at the end; loops stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
import tvm_ffi
from tvm import ir, s_tir, tirx
from tvm.s_tir.pipeline import finalize_device_passes, finalize_host_passes

from tvm_conv3dt.compiler.absent_taps import skip_absent_taps
from tvm_conv3dt.compiler.deferring import defer_stores
from tvm_conv3dt.compiler.input_prefetching import prefetch_inputs
from tvm_conv3dt.compiler.joining import join_products
from tvm_conv3dt.compiler.large_inputs import spare_sums
from tvm_conv3dt.compiler.mending import mend_sums
from tvm_conv3dt.compiler.mmla import import_products
from tvm_conv3dt.compiler.overlap import overlap_tiles
from tvm_conv3dt.compiler.pair_products import multiply_pairs
from tvm_conv3dt.compiler.panel_prefetching import prefetch_panels
from tvm_conv3dt.compiler.phase_copies import COPIED, copy_phases
from tvm_conv3dt.compiler.pieces import split_pieces
from tvm_conv3dt.compiler.prefetching import prefetch_planes
from tvm_conv3dt.compiler.registers import split_registers
from tvm_conv3dt.compiler.rolling import roll_planes
from tvm_conv3dt.compiler.rounding import round_to_bfloat16
from tvm_conv3dt.compiler.shuffling import shuffle_loads
from tvm_conv3dt.compiler.streaming import STREAM, stream_stores
from tvm_conv3dt.compiler.tap_loops import shorten_tap_loops
from tvm_conv3dt.compiler.task_prefetching import prefetch_tasks
from tvm_conv3dt.compiler.tile_registers import REGISTER_ROWS, configure_tiles
from tvm_conv3dt.compiler.turning import turn_tiles

__all__ = ["CPU", "lower_blocks", "place_buffers"]

CPU = "conv3d_transpose.cpu"
"""The pipeline's name, for ``tvm.compile(place_buffers(functions), ..., tir_pipeline=CPU)``."""

_CARRIED = (REGISTER_ROWS, STREAM)


def lower_blocks(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Apply this package's rewrites of a scheduled function, whose blocks are still there."""
    # Copies of parallel loops have memory of their own for what their tasks have met, too.
    function = overlap_tiles(copy_phases(spare_sums(function)))
    function = prefetch_planes(shorten_tap_loops(skip_absent_taps(function)))
    return _carry_annotations(split_pieces(mend_sums(function)))


def _carry_annotations(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Give a function the annotations of its blocks that later passes ask for: blocks go first."""
    found: dict[str, Any] = {}

    def visit(block: s_tir.SBlock) -> None:
        found.update(
            {name: block.annotations[name] for name in _CARRIED if name in block.annotations}
        )

    tvm_ffi.structural_walk(function, (s_tir.SBlock, visit))
    return function.with_attrs(found) if found else function


def _pass(rewrite: Callable[[tirx.PrimFunc], tirx.PrimFunc]) -> Any:
    """Return a rewrite of a function as a pass."""
    return tirx.transform.prim_func_pass(lambda function, *_: rewrite(function), opt_level=0)


def place_buffers(functions: tvm.IRModule) -> tvm.IRModule:
    """Return scheduled functions as they are when every buffer has its place and its size: what they allocate is known then."""
    passes = tvm.ir.transform.Sequential(
        [
            _pass(lower_blocks),
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.CompactBufferAllocation(),
            s_tir.transform.LowerMatchBuffer(),
            _pass(roll_planes),
        ]
    )
    return passes(functions)


def _pipeline() -> tuple[Any, Any, Any]:
    passes = tvm.ir.transform.Sequential(
        [
            _pass(turn_tiles),
            s_tir.transform.StmtSimplify(),
            s_tir.transform.LowerOpaqueBlock(),
            tirx.transform.FlattenBuffer(),
            tirx.transform.NarrowDataType(32),
            _pass(join_products),
            _pass(prefetch_panels),
            _pass(prefetch_inputs),
            _pass(prefetch_tasks),
            _pass(defer_stores),
            s_tir.transform.LoopPartition(),
            tirx.transform.VectorizeLoop(True),
            _pass(shuffle_loads),
            _pass(round_to_bfloat16),
            _pass(_wide_offsets),
            _pass(multiply_pairs),
            _pass(import_products),
            _pass(stream_stores),
            tirx.transform.StorageRewrite(),
            s_tir.transform.HoistIfThenElse(),
            s_tir.transform.RenormalizeSplitPattern(),
            tirx.transform.UnrollLoop(),
            tirx.transform.StmtSimplify(),
            _pass(split_registers),
            _pass(configure_tiles),
            s_tir.transform.RewriteUnsafeSelect(),
            _pass(_share_terms),
            tirx.transform.VerifyMemory(),
            tirx.transform.AnnotateEntryFunc(),
            tirx.transform.SplitHostDevice(),
            tirx.transform.MakePackedAPI(),
        ]
    )
    return passes, finalize_host_passes, finalize_device_passes


tirx.register_tir_pipeline(CPU, _pipeline)


def _share_terms(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Let terms that occur more than once be computed once; where phases are written out that is left to LLVM: TVM takes long for so much."""
    if COPIED in function.attrs:
        return function
    return tirx.transform.CommonSubexprElim()(ir.IRModule({"main": function}))["main"]


def _wide_offsets(function: tirx.PrimFunc) -> tirx.PrimFunc:
    def indices(access: Any) -> list[Any]:
        return [_wide(index) for index in access.indices]

    def load(each: ir.TensorLoad) -> Any:
        return tirx.BufferLoad(each.source, indices(each))

    def store(each: tirx.BufferStore) -> Any:
        return tirx.BufferStore(each.buffer, each.value, indices(each))

    return tvm_ffi.structural_map(function, [(ir.TensorLoad, load), (tirx.BufferStore, store)])


def _wide(index: Any) -> Any:
    """Return an offset whose sums and products are 64-bit; those of a vector that follow each other as a ramp."""
    lanes = int(tvm.DataType(index.ty.dtype).lanes)
    if lanes > 1:
        ramp = _ramp(index)
        return index if ramp is None else tirx.Ramp(*ramp, lanes)
    if isinstance(index, tirx.IntImm):
        return tirx.const(int(index), "int64")
    if isinstance(index, tirx.Add | tirx.Sub | tirx.Mul):
        return type(index)(_wide(index.a), _wide(index.b))
    if isinstance(index, tirx.Cast) and index.value.ty.dtype == "int32":
        return _wide(index.value)
    return tirx.Cast("int64", index)


def _ramp(index: Any) -> tuple[Any, Any] | None:
    """Return start and step of a vector of offsets, where it has them.

    Into an array with 64-bit sizes TVM makes offsets of vectors that it casts, and no ramp any more.
    """
    zero = tirx.const(0, "int64")
    if isinstance(index, tirx.Ramp):
        return _wide(index.base), _wide(index.stride)
    if isinstance(index, tirx.Broadcast):
        return _wide(index.value), zero
    if isinstance(index, tirx.Cast):
        return _ramp(index.value)
    if not isinstance(index, tirx.Add | tirx.Mul):
        return None
    left, right = _ramp(index.a), _ramp(index.b)
    if left is None or right is None:
        return None
    (a, a_step), (b, b_step) = left, right
    if isinstance(index, tirx.Add):
        return a + b, a_step + b_step
    if isinstance(index.b, tirx.Broadcast):
        return a * b, a_step * b
    return (a * b, b_step * a) if isinstance(index.a, tirx.Broadcast) else None
