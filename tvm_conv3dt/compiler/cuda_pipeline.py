"""Lowering for GPUs: TVM's own passes, after the one of ours that sees blocks."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir.pipeline import default_s_tir_pipeline

from tvm_conv3dt.compiler.tap_loops import shorten_tap_loops

__all__ = ["CUDA"]

CUDA = "conv3d_transpose.cuda"
"""The pipeline's name, for ``tvm.compile(..., tir_pipeline=CUDA)``."""


def _pipeline() -> tuple[Any, Any, Any]:
    passes, host, device = default_s_tir_pipeline()
    shorten = tirx.transform.prim_func_pass(
        lambda function, *_: shorten_tap_loops(function), opt_level=0
    )
    return tvm.ir.transform.Sequential([shorten, passes]), host, device


tirx.register_tir_pipeline(CUDA, _pipeline)
