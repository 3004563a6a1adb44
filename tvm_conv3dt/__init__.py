"""tf.nn.conv3d_transpose, compiled: load a bundle, or call the operator.

Importing this package is light: each public name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm_conv3dt import errors as errors
    from tvm_conv3dt.forms import from_onnx as from_onnx
    from tvm_conv3dt.forms import from_torch as from_torch
    from tvm_conv3dt.forms import from_torch_functional as from_torch_functional
    from tvm_conv3dt.functional import conv3d_transpose as conv3d_transpose
    from tvm_conv3dt.runtime import get_num_threads as get_num_threads
    from tvm_conv3dt.runtime import load as load
    from tvm_conv3dt.runtime import set_num_threads as set_num_threads
    from tvm_conv3dt.spec import Workload as Workload

__version__ = "0.1.0"

# Public name -> the module that defines it; None where the name is a module itself.
_HOMES: dict[str, str | None] = {
    "Workload": "tvm_conv3dt.spec",
    "conv3d_transpose": "tvm_conv3dt.functional",
    "errors": None,
    "from_onnx": "tvm_conv3dt.forms",
    "from_torch": "tvm_conv3dt.forms",
    "from_torch_functional": "tvm_conv3dt.forms",
    "get_num_threads": "tvm_conv3dt.runtime",
    "load": "tvm_conv3dt.runtime",
    "set_num_threads": "tvm_conv3dt.runtime",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    value = import_module(f"{__name__}.{name}") if home is None else _attribute(home, name)
    globals()[name] = value
    return value


def _attribute(home: str, name: str) -> object:
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
