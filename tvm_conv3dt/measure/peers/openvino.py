"""OpenVINO's CPU plugin, with the input and output in either layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import openvino
from openvino.preprocess import PrePostProcessor

from tvm_conv3dt.measure.peers import onnx_model
from tvm_conv3dt.measure.peers.problem import Array, Problem, Started, Variant

__all__ = ["start"]


def start(threads: int) -> Started:
    """Keep the threads for the compiled models."""
    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # Where the CPU has bfloat16 the default would be that.
        "INFERENCE_PRECISION_HINT": "f32",
    }

    def prepare(problem: Problem) -> Sequence[Variant]:
        data = onnx_model.model(problem)

        def request(layout: str) -> Any:
            model = core.read_model(BytesIO(data))
            if layout == "NDHWC":
                model = _channels_last(model)
            return core.compile_model(model, "CPU", options).create_infer_request()

        return [
            _variant(
                "NCDHW", request("NCDHW"), problem.channels_first, problem.from_channels_first
            ),
            _variant("NDHWC", request("NDHWC"), problem.channels_last, problem.from_channels_last),
        ]

    return Started(str(openvino.__version__), prepare)


def _channels_last(model: Any) -> Any:
    steps = PrePostProcessor(model)
    for end in (steps.input(), steps.output()):
        end.tensor().set_layout(openvino.Layout("NDHWC"))
        end.model().set_layout(openvino.Layout("NCDHW"))
    return steps.build()


def _variant(layout: str, request: Any, x: Array, to_format: Callable[[Array], Array]) -> Variant:
    # The request reads `x` where it lies, and owns its output tensor, which it writes anew at every call.
    return Variant(
        layout,
        "reused",
        lambda: request.infer({0: x}, share_inputs=True, share_outputs=True),
        lambda results: to_format(results[0]),
    )
