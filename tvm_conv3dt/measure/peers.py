"""Frameworks that compute the same, to be timed beside a bundle where they are installed."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy.typing as npt

from tvm_conv3dt.errors import PlatformError, UnsupportedError, describe
from tvm_conv3dt.spec import Workload

__all__ = ["PEERS", "prepare"]

Array = npt.NDArray[Any]
Prepare = Callable[[Workload, Array, Array, "Array | None"], Callable[[], object]]


def prepare(
    name: str, workload: Workload, x: Array, filters: Array, bias: Array | None
) -> Callable[[], object]:
    """Return a peer's call of a workload, with its arrays already in the peer's own form.

    Parameters
    ----------
    name : str
        One of `PEERS`.
    workload : Workload
        What to compute.
    x, filters, bias : numpy.ndarray
        Its arrays; `bias` is None where there is none.

    Returns
    -------
    callable
        Without arguments; returns the peer's own array, complete when it returns.

    Raises
    ------
    PlatformError
        If the peer is not installed.
    UnsupportedError
        If the peer does not compute this workload.
    """
    if find_spec(name) is None:
        rule = "it is not installed"
        raise PlatformError(
            describe("time", "peer", name, rule, f"install {name}, or leave it out")
        )
    return PEERS[name](workload, x, filters, bias)


def _tensorflow(
    workload: Workload, x: Array, filters: Array, bias: Array | None
) -> Callable[[], object]:
    if max(workload.dilations) > 1 and max(workload.strides) > 1:
        # TensorFlow 2.21 ends the process here.
        rule = "TensorFlow does not compute a dilation together with a stride"
        raise UnsupportedError(describe("time", "peer", "tensorflow", rule, "leave it out"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # its greetings are no news here
    import tensorflow as tf

    activations = {
        "relu": tf.nn.relu,
        "leaky_relu": lambda y: tf.nn.leaky_relu(y, workload.alpha),
        # TensorFlow's elu has no alpha; the cost is the same.
        "elu": tf.nn.elu,
        "sigmoid": tf.sigmoid,
        "tanh": tf.tanh,
        None: lambda y: y,
    }
    activation = activations[workload.activation]
    held = [tf.constant(array) for array in (x, filters, bias) if array is not None]

    @tf.function(autograph=False)  # type: ignore[untyped-decorator, unused-ignore]
    def call(x: Any, filters: Any, *bias: Any) -> Any:
        y = tf.nn.conv3d_transpose(
            x,
            filters,
            workload.output_shape,
            list(workload.strides),
            workload.padding,
            workload.data_format,
            list(workload.dilations),
        )
        if bias:
            y = tf.nn.bias_add(y, bias[0], data_format=workload.data_format)
        return activation(y)

    # Tensors of the CPU are ready when the call returns.
    return lambda: call(*held)


PEERS: dict[str, Prepare] = {"tensorflow": _tensorflow}
"""What can be timed, by the name of its package."""
