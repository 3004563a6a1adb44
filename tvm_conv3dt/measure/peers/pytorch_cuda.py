"""PyTorch on a GPU, which calls cuDNN: `conv_transpose3d` in both memory formats, cuDNN's algorithms tried beforehand.

Of float32 there are two modes, and each is a peer of its own: exact products, or such whose factors are rounded to TF32,
ten bits after the point, which tensor cores take.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tvm_conv3dt.errors import PlatformError, UnsupportedError, describe
from tvm_conv3dt.measure.peers.problem import Problem, Started, Variant
from tvm_conv3dt.measure.peers.pytorch import FORMATS, array, layer

__all__ = ["EXACT", "TF32", "start"]

EXACT, TF32 = "exact", "tf32"
"""The modes."""

_DEVICE = "cuda"
# A rounding to TF32 of each factor, and half as many again for what sums make of them: one shifted by a position
# is far above.
_TF32_TOLERANCE = 16 * 2.0**-10


def start(threads: int, mode: str) -> Started:
    """Set the mode.

    Raises
    ------
    PlatformError
        If this PyTorch uses no GPU here.
    """
    torch.set_num_threads(threads)
    if not torch.cuda.is_available():
        built = torch.version.cuda
        rule = "it was built without CUDA" if built is None else "it finds no GPU that it can use"
        mend = "install a PyTorch for CUDA"
        raise PlatformError(describe("use", "PyTorch", torch.__version__, rule, mend))
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.benchmark_limit = 0  # all algorithms, not the first ten
    # PyTorch's own default is TF32 for convolutions.
    torch.backends.cudnn.allow_tf32 = mode == TF32
    version = f"{torch.__version__}, cuDNN {torch.backends.cudnn.version()}"

    def prepare(problem: Problem) -> Sequence[Variant]:
        dtype = problem.workload.dtype
        if mode == TF32 and dtype != "float32":
            rule = "TF32 is a mode of float32"
            raise UnsupportedError(describe("compute", "layer", f"dtype {dtype}", rule))
        return [
            Variant(
                name,
                "fresh",
                layer(problem, memory_format, _DEVICE),
                lambda y: problem.from_channels_first(array(y.cpu(), problem.workload)),
                torch.cuda.synchronize,
                _TF32_TOLERANCE if mode == TF32 else None,
            )
            for name, memory_format in FORMATS.items()
        ]

    return Started(version, prepare)
