"""Frameworks that compute the same, to be timed beside a bundle where they are installed.

Each is one module here, listed in `PEERS`, and runs in a process of its own (`worker`). A peer's module
imports its framework at its top, so nothing but that process imports it, and has one function::

    start(threads, *arguments) -> Started

which sets the number of threads through the framework's own interface.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec

from tvm_conv3dt.errors import PlatformError, describe

__all__ = ["GPU_PEERS", "LESS_EXACT", "PEERS", "Peer", "check_installed"]


@dataclass(frozen=True)
class Peer:
    """Where an implementation is.

    Attributes
    ----------
    module : str
        With the function `start`.
    packages : tuple of str
        What it imports, beside this package's own dependencies.
    extra : str
        Of this package, which brings them.
    arguments : tuple of str
        For `start`, after the number of threads.
    dropped : tuple of str
        Environment variables that its process does not get.
    variables : tuple of (str, str)
        Environment variables that it gets, with their values.
    """

    module: str
    packages: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    extra: str = "peers"


def _framework(name: str, *packages: str) -> Peer:
    return Peer(f"{__name__}.{name}", packages)


PEERS: dict[str, Peer] = {
    "tensorflow": _framework("tensorflow", "tensorflow"),
    "pytorch": _framework("pytorch", "torch"),
    "onnxruntime": _framework("onnxruntime", "onnxruntime", "onnx"),
    "openvino": _framework("openvino", "openvino", "onnx"),
    "tvm": replace(
        _framework("tvm", "tvm", "xgboost", "cloudpickle", "psutil", "platformdirs"),
        extra="compiler",
    ),
}
"""What can be timed beside a bundle, by the name that ``bench --against`` takes.

``tvm`` takes the folder of its tuning results and the number of trials as arguments.
"""

LESS_EXACT = frozenset({"pytorch-tf32"})
"""Peers that compute with less than the workload's dtype: they are timed, and no speed-up is over them."""

GPU_PEERS: dict[str, dict[str, Peer]] = {
    "pytorch": {
        "pytorch": replace(_framework("pytorch_cuda", "torch"), arguments=("exact",)),
        "pytorch-tf32": replace(_framework("pytorch_cuda", "torch"), arguments=("tf32",)),
    },
}
"""What can be timed beside a bundle for GPUs: for a name of ``bench --against`` all its modes, by the names of `PEERS`.

Those of `LESS_EXACT` are for float32 only.
"""


def check_installed(names: Iterable[str]) -> None:
    """Refuse peers that are not installed.

    Parameters
    ----------
    names : iterable of str
        Of `PEERS`.

    Raises
    ------
    PlatformError
        If a package that a peer imports is missing.
    """
    for name in names:
        for package in PEERS[name].packages:
            if find_spec(package) is None:
                rule = f"the package {package} is not installed"
                mend = f'pip install "tvm-conv3dt[{PEERS[name].extra}]", or leave it out'
                raise PlatformError(describe("time", "peer", name, rule, mend))
