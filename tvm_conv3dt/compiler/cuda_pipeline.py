"""Lowering for GPUs: TVM's own passes, after those of ours that see blocks."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx
from tvm.ir.transform import PassContext
from tvm.s_tir.pipeline import default_s_tir_pipeline

from tvm_conv3dt.compiler.absent_taps import skip_absent_taps
from tvm_conv3dt.compiler.tap_loops import shorten_tap_loops

__all__ = ["CUDA"]

CUDA = "conv3d_transpose.cuda"
"""The pipeline's name, for ``tvm.compile(..., tir_pipeline=CUDA)``."""

# It would give sums of float32 the memory of a tile of float16, and then not take the pointers of tensor cores to it.
_WITHOUT = {"tirx.disable_storage_rewrite": True}


def _pipeline() -> tuple[Any, Any, Any]:
    passes, host, device = default_s_tir_pipeline()
    lower_blocks = tirx.transform.prim_func_pass(
        lambda function, *_: skip_absent_taps(shorten_tap_loops(function)), opt_level=0
    )

    def lower(module: tvm.IRModule, context: PassContext) -> tvm.IRModule:
        with PassContext(opt_level=context.opt_level, config={**context.config, **_WITHOUT}):
            return passes(lower_blocks(module))

    return tvm.ir.transform.module_pass(lower, opt_level=0), host, device


tirx.register_tir_pipeline(CUDA, _pipeline)
