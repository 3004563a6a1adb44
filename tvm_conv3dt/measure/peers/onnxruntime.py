"""ONNX Runtime, with its CPU provider, which computes float16 in float32 and puts conversions around."""

from __future__ import annotations

from collections.abc import Sequence

import onnxruntime

from tvm_conv3dt.errors import UnsupportedError, describe
from tvm_conv3dt.measure.peers import onnx_model
from tvm_conv3dt.measure.peers.problem import Problem, Started, Variant

__all__ = ["start"]


def start(threads: int) -> Started:
    """Keep the threads for the sessions."""

    def prepare(problem: Problem) -> Sequence[Variant]:
        if problem.workload.dtype == "bfloat16":
            rule = "ONNX Runtime's CPU provider has no ConvTranspose of it"
            raise UnsupportedError(describe("compute", "layer", "dtype bfloat16", rule))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            onnx_model.model(problem), options, providers=["CPUExecutionProvider"]
        )
        x = problem.channels_first
        return [
            Variant(
                "NCDHW",
                "fresh",
                lambda: session.run(None, {"x": x}),
                lambda results: problem.from_channels_first(results[0]),
            )
        ]

    return Started(str(onnxruntime.__version__), prepare)
