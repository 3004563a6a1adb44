"""OpenVINO's CPU plugin, with the input and output in either layout.

It computes in the type of the layer. Of the half types there are models on arrays of that type, and models of float32 with
a hint, as most users write them: the plugin may still compute these in float32, which it does with the last layers of a network
where the hint is bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import openvino
from openvino.preprocess import PrePostProcessor

from tvm_conv3dt.bfloat16 import numpy_dtype
from tvm_conv3dt.measure.peers import onnx_model
from tvm_conv3dt.measure.peers.problem import HALVES, Array, Problem, Started, Variant

__all__ = ["start"]

# By what the layer may be multiplied in. Without a hint the plugin would take bfloat16 for float32 where the CPU has it.
_HINTS = {"float32": "f32", "float64": "f32", "float16": "f16", "bfloat16": "bf16"}


def start(threads: int) -> Started:
    """Keep the threads for the compiled models."""
    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }

    def variants(problem: Problem, hint: str, dtype: str) -> Iterator[Variant]:
        """Compile a problem in both layouts, its results as arrays of `dtype`."""
        data = onnx_model.model(problem)
        kind = problem.workload.dtype
        suffix = "" if kind == dtype else f" {kind}"

        def request(layout: str) -> Any:
            model = core.read_model(BytesIO(data))
            if layout == "NDHWC":
                model = _channels_last(model)
            hints = {**options, "INFERENCE_PRECISION_HINT": hint}
            return core.compile_model(model, "CPU", hints).create_infer_request()

        for layout, x, to_format in (
            ("NCDHW", problem.channels_first, problem.from_channels_first),
            ("NDHWC", problem.channels_last, problem.from_channels_last),
        ):
            yield _variant(layout + suffix, request(layout), x, to_format, dtype)

    def prepare(problem: Problem) -> Sequence[Variant]:
        dtype, hint = problem.workload.dtype, _HINTS[problem.workload.product_dtype]
        problems = [problem, problem.cast("float32")] if dtype in HALVES else [problem]
        return [each for one in problems for each in variants(one, hint, dtype)]

    return Started(str(openvino.__version__), prepare)


def _channels_last(model: Any) -> Any:
    steps = PrePostProcessor(model)
    for end in (steps.input(), steps.output()):
        end.tensor().set_layout(openvino.Layout("NDHWC"))
        end.model().set_layout(openvino.Layout("NCDHW"))
    return steps.build()


def _variant(
    layout: str, request: Any, x: Array, to_format: Callable[[Array], Array], dtype: str
) -> Variant:
    # The request reads `x` where it lies, and owns its output tensor, which it writes anew at every call.
    tensor = _tensor(x)
    return Variant(
        layout,
        "reused",
        lambda: request.infer({0: tensor}, share_outputs=True),
        lambda results: to_format(results[0].view(x.dtype).astype(numpy_dtype(dtype), copy=False)),
    )


def _tensor(x: Array) -> Any:
    if x.dtype.name != "bfloat16":
        return openvino.Tensor(x, shared_memory=True)
    result = openvino.Tensor(openvino.Type.bf16, openvino.Shape(x.shape))
    # OpenVINO shows NumPy, which it does not know to have a bfloat16, two bytes as float16.
    result.data.view(np.uint16)[...] = x.view(np.uint16)
    return result
