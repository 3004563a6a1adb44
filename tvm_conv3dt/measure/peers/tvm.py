"""TVM as it comes: its own operator `conv3d_transpose_ncdhw`, tuned by MetaSchedule in its own space for LLVM.

What it lacks, dilation and long tails of zeros, is refused. Its padding is given for each side, so TensorFlow's rule needs no slice of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import te, tirx, topi

from tvm_conv3dt import device
from tvm_conv3dt.errors import UnsupportedError, describe
from tvm_conv3dt.measure.peers.problem import Problem, Started, Variant
from tvm_conv3dt.measure.peers.tvm_search import Search
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.threads import pool_arguments

__all__ = ["define", "start", "target"]

Tensor = Any


def start(threads: int, folder: str, trials: str) -> Started:
    """Set the threads; tunes into `folder`, unless it holds the results of so many trials already."""
    tvm.get_global_func("runtime.config_threadpool")(*pool_arguments(threads, size=threads))
    search = Search(Path(folder), target(threads), threads, int(trials))
    return Started(str(tvm.__version__), partial(_prepare, search))


def target(threads: int) -> tvm.target.Target:
    """Return this machine's target: the one that our kernels are compiled for."""
    host = device.host()
    config: dict[str, Any] = {
        "kind": "llvm",
        "mtriple": f"{host.arch}-{host.os}-gnu",
        "mcpu": host.mcpu,
        "num-cores": threads,
    }
    if host.mattr:
        config["mattr"] = list(host.mattr)
    return tvm.target.Target(config)


def define(problem: Problem) -> tirx.PrimFunc:
    """Return ``main(x, filters, [bias,] y)``, all channels first, nothing scheduled.

    Raises
    ------
    UnsupportedError
        For a dilation, or as many zeros after the last position as the stride.
    """
    workload = problem.workload
    if any(axis.dilation > 1 and axis.kernel > 1 for axis in workload.axes):
        raise UnsupportedError(
            describe(
                "define",
                "workload",
                f"dilations {list(workload.dilations)}",
                "TVM's own conv3d_transpose has no dilation",
            )
        )
    dtype, after = workload.dtype, problem.pad_after
    x = te.placeholder(problem.channels_first.shape, dtype, "x")
    filters = te.placeholder(problem.filters_by_channels.shape, dtype, "filters")
    padding = (*workload.pad_before, *(max(0, cut) for cut in after))
    # Zeros after the last position, fewer than the stride wherever TensorFlow allows the output's size.
    extra = tuple(max(0, -cut) for cut in after)
    if any(zeros >= stride for zeros, stride in zip(extra, workload.strides, strict=True)):
        value = f"zeros {list(extra)} after the last position"
        rule = "TVM's own conv3d_transpose takes fewer than the stride"
        raise UnsupportedError(describe("define", "workload", value, rule))
    # Halves are added in float32, as here: TVM would else do it in their own type.
    sums = workload.sum_dtype
    y = topi.nn.conv3d_transpose_ncdhw(x, filters, workload.strides, padding, sums, extra)
    arguments = [x, filters]
    if problem.bias is not None:
        bias = te.placeholder(problem.bias.shape, dtype, "bias")
        arguments.append(bias)
        convolved = y
        y = te.compute(
            y.shape,
            lambda n, c, d, h, w: convolved[n, c, d, h, w] + bias[c].astype(sums),
            "with_bias",
        )
    y = _activate(workload, y)
    if dtype != sums:
        y = topi.cast(y, dtype)
    return te.create_prim_func([*arguments, y]).with_attr("global_symbol", "main")


def _activate(workload: Workload, y: Tensor) -> Tensor:
    alpha = tirx.const(workload.alpha or 0.0, workload.sum_dtype)
    activations: dict[str | None, Callable[[Tensor], Tensor]] = {
        "relu": topi.nn.relu,
        "leaky_relu": lambda y: topi.nn.leaky_relu(y, workload.alpha),
        "elu": lambda y: te.compute(
            y.shape,
            lambda *i: tirx.if_then_else(y(*i) > 0, y(*i), alpha * (tirx.exp(y(*i)) - 1)),
            "elu",
        ),
        "sigmoid": topi.sigmoid,
        "tanh": topi.tanh,
        None: lambda y: y,
    }
    return activations[workload.activation](y)


def _prepare(search: Search, problem: Problem) -> Sequence[Variant]:
    module = search.best(problem.workload.id, define(problem), problem.report)
    run = module["main"]
    workload = problem.workload
    constants = [] if problem.bias is None else [problem.bias]
    arrays = [problem.channels_first, problem.filters_by_channels, *constants]
    arguments = [tvm.runtime.tensor(array) for array in arrays]
    shape = (workload.batch, workload.out_channels, *workload.output_spatial)
    y = tvm.runtime.tensor(np.full(shape, np.nan, workload.numpy_dtype))

    def call() -> Any:
        run(*arguments, y)
        return y

    return [Variant("NCDHW", "reused", call, lambda y: problem.from_channels_first(y.numpy()))]
