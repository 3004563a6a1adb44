"""TensorFlow: `tf.nn.conv3d_transpose` in a graph with constant filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tvm_conv3dt.errors import UnsupportedError, describe
from tvm_conv3dt.measure.peers.problem import Problem, Started, Variant
from tvm_conv3dt.spec import Workload

__all__ = ["start"]


def start(threads: int) -> Started:
    """Set the threads."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return Started(str(tf.__version__), _prepare)


def _prepare(problem: Problem) -> Sequence[Variant]:
    workload = problem.workload
    if not isinstance(workload.padding, str):
        value, rule = f"padding={list(workload.padding)}", "TensorFlow's is SAME or VALID"
        raise UnsupportedError(describe("define", "workload", value, rule))
    shape = (workload.batch, *workload.output_spatial, workload.out_channels)

    def layer(x: Any) -> Any:
        # Made while the graph is traced: constants of the graph, not arguments of every call.
        filters = tf.constant(problem.filters)
        strides, dilations = list(workload.strides), list(workload.dilations)
        y = tf.nn.conv3d_transpose(
            x, filters, shape, strides, workload.padding, dilations=dilations
        )
        if problem.bias is not None:
            y = tf.nn.bias_add(y, tf.constant(problem.bias))
        return _activate(workload, y)

    x = tf.constant(problem.channels_last)
    # A relaxed-shape or eager call would look everything up again; XLA's CPU convolutions are slower.
    call = tf.function(layer, autograph=False, jit_compile=False).get_concrete_function(x)
    return [
        Variant(
            "NDHWC",
            "fresh",
            lambda: call(x),  # a tensor of the CPU is complete when the call returns
            lambda y: problem.from_channels_last(np.asarray(y)),
        )
    ]


def _activate(workload: Workload, y: Any) -> Any:
    match workload.activation:
        case "relu":
            return tf.nn.relu(y)
        case "leaky_relu":
            return tf.nn.leaky_relu(y, workload.alpha)
        case "elu" if workload.alpha != 1.0:  # TensorFlow's has no alpha
            return tf.where(y > 0, y, workload.alpha * tf.math.expm1(y))
        case "elu":
            return tf.nn.elu(y)
        case "sigmoid":
            return tf.sigmoid(y)
        case "tanh":
            return tf.tanh(y)
    return y
