"""`conv3d_transpose` with TensorFlow's signature: a loaded bundle's kernel, else one compiled at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_conv3dt.errors import (
    ArgumentTypeError,
    CompilerMissingError,
    WorkloadNotFoundError,
    describe,
    show,
)
from tvm_conv3dt.locks import Lock
from tvm_conv3dt.spec import DTYPES, Workload

if TYPE_CHECKING:
    from tvm_conv3dt.runtime import Bundle

__all__ = ["bundle_for", "conv3d_transpose"]

# Keeps the bundles of the last workloads compiled here loaded, so that a loop over a few shapes finds them.
_COMPILED_KEPT = 64
_compiled: dict[Workload, Bundle] = {}
_lock = Lock()

_NUMBERS = (list, tuple, int, float)


def conv3d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: str | Sequence[int] = "SAME",
    data_format: str = "NDHWC",
    dilations: Any = None,
    name: str | None = None,
    *,
    bias: Any = None,
    activation: str | None = None,
    alpha: float | None = None,
    precision: str | None = None,
    out: Any = None,
) -> Any:
    """Return the transpose of `conv3d`, as ``tf.nn.conv3d_transpose`` defines it.

    What follows `name` is not TensorFlow's: a bias and an activation, in the same pass over the result, and a precision.

    The kernel comes from a bundle that this process has loaded, if one holds the workload. Else it is
    compiled, with a schedule that fits or the design space's default point, and kept in a cache on disk:
    the first call with new shapes takes about a second. The filters are packed at every call;
    `Bundle.operator` packs them once.

    Arrays are NumPy's; tensors of PyTorch, TensorFlow or JAX, or others that export DLPack, in the CPU's memory; or
    lists of numbers, which have the dtype of the arrays beside them, and float32 where there are none.

    Where an array is on a GPU, the kernel comes from a loaded bundle that is for GPUs (see `Bundle.operator`); none is
    compiled at once. Filters then go from and to the GPU at every call.

    Parameters
    ----------
    input : array
        Shape ``[batch, depth, height, width, in_channels]`` for ``"NDHWC"``; float32, float64, float16 or bfloat16.
    filters : array
        Shape ``[depth, height, width, out_channels, in_channels]``, of the same dtype.
    output_shape : sequence of 5 int
        The result's shape, in the order of `data_format`.
    strides : int or sequence of 1, 3 or 5 int
        Strides of depth, height and width.
    padding : str or sequence of 3 int
        ``"SAME"`` or ``"VALID"``; or, which TensorFlow has not, how many positions are cut off before depth,
        height and width: `output_shape` then says how many at the end.
    data_format : str
        ``"NDHWC"`` or ``"NCDHW"``.
    dilations : int or sequence of 1, 3 or 5 int, optional
        Dilations of depth, height and width.
    name : str, optional
        Taken for TensorFlow's sake, and not used.
    bias : array, optional
        Shape ``[out_channels]``, of the same dtype; added to the result.
    activation : str, optional
        What follows: ``"relu"``, ``"leaky_relu"``, ``"elu"``, ``"sigmoid"`` or ``"tanh"``.
    alpha : float, optional
        Of ``"leaky_relu"`` (0.2) and ``"elu"`` (1.0).
    precision : str, optional
        ``"bfloat16"``, of float32 arrays, permits products of factors rounded to bfloat16; ``"float16"``, of float16 arrays,
        permits sums in float16: for speed where the machine has units for them. ``"float32"``, of float32 arrays, forbids
        to split numbers and to add them before they are multiplied. See `Workload` for the errors. Such a call is a workload
        of its own in bundles.
    out : array, optional
        Where to write the result: a NumPy array, a tensor of PyTorch, or one that exports writable memory by DLPack; of
        shape `output_shape` and the input's dtype, not over the input.

    Returns
    -------
    array
        `out`, or a new one of shape `output_shape`, of the input's dtype and of the framework that `input` is of.

    Raises
    ------
    WorkloadError
        If shapes, strides, dilations or activation do not go together, or there is a precision for arrays of
        another dtype.
    ArgumentTypeError
        If an argument has the wrong type, or the dtypes differ.
    ArrayError
        If values are not to be had (on another device, sparse, masked, traced, recorded for gradients), the bias has
        another length, or `out` cannot be written to or lies over the input.
    UnsupportedError
        If it is legal and cannot be compiled yet, or bfloat16 and the package ml_dtypes is not installed.
    CompilerMissingError
        If no loaded bundle holds the workload, and the compiler is not installed.
    WorkloadNotFoundError
        If an array is on a GPU, and no loaded bundle for GPUs holds the workload.
    """
    del name
    from tvm_conv3dt.runtime import device_arrays, frameworks

    given = {"input": input, "filters": filters} | ({} if bias is None else {"bias": bias})
    gpus = {each: device_arrays.gpu_of(value) for each, value in [*given.items(), ("out", out)]}
    on_gpu = [each for each, gpu in gpus.items() if gpu is not None]
    read = {
        # Of an array on a GPU, here only shape and dtype count.
        each: device_arrays.outline(each, value) if each in on_gpu else _array(each, value)
        for each, value in given.items()
    }
    dtype = _common_dtype(given, read)
    x, weights, added = read["input"], read["filters"], read.get("bias")
    workload = Workload.make(
        x.shape,
        weights.shape,
        output_shape,
        strides,
        padding=padding,
        data_format=data_format,
        dilations=dilations,
        dtype=dtype.name,
        bias=added is not None,
        activation=activation,
        alpha=alpha,
        precision=precision,
    )
    if on_gpu:
        values: dict[str, Any] = {**read, **{each: given[each] for each in on_gpu if each in given}}
        operator = _loaded_for_gpus(workload).operator(
            workload, values["filters"], values.get("bias"), gpu=gpus[on_gpu[0]]
        )
        result = operator(values["input"], out)
        return frameworks.like(input, result) if out is None and "input" not in on_gpu else result
    result = bundle_for(workload).operator(workload, weights, added)(x, out)
    return frameworks.like(input, result) if out is None else out


def _array(name: str, value: Any) -> np.ndarray[Any, Any]:
    from tvm_conv3dt.runtime import frameworks

    if isinstance(value, _NUMBERS):
        try:
            array = np.asarray(value)
        except Exception as error:  # ValueError where it is ragged; what its elements raise
            rule = f"it must be an array: {error}"
            raise ArgumentTypeError(describe("use", f"array {name}", show(value), rule)) from error
        plain = _is_plain(value, array.ndim)
    else:
        array, plain = frameworks.to_numpy(name, value), False
    if plain and array.dtype.kind in "fiu":
        return array
    if array.dtype.name not in DTYPES:
        rule = f"it must be one of {', '.join(DTYPES)}"
        raise ArgumentTypeError(describe("use", f"array {name}", f"dtype={array.dtype}", rule))
    return array


def _common_dtype(given: dict[str, Any], read: dict[str, np.ndarray[Any, Any]]) -> np.dtype[Any]:
    """Return the dtype of all arrays, having converted Python's numbers, which have none, to it."""
    plain = [name for name, value in given.items() if _is_plain(value, read[name].ndim)]
    dtypes = {name: read[name].dtype.newbyteorder("=") for name in read if name not in plain}
    first, dtype = next(iter(dtypes.items()), ("", np.dtype(np.float32)))
    for name, other in dtypes.items():
        if other != dtype:
            value = f"{first} of {dtype} and {name} of {other}"
            rule = "they must have the same dtype"
            raise ArgumentTypeError(describe("call", "conv3d_transpose", value, rule))
    for name in plain:
        read[name] = read[name].astype(dtype)
    return dtype


def _is_plain(value: Any, depth: int) -> bool:
    """Whether it is Python's numbers, in lists of that depth: TensorFlow fits their dtype to that of tensors."""
    for _ in range(depth):
        if not isinstance(value, (list, tuple)):
            return False
        value = value[0] if value else 0.0
    return isinstance(value, (int, float)) and not isinstance(value, np.generic)


def bundle_for(workload: Workload) -> Bundle:
    """Return a bundle for the CPU that holds `workload`: one that this process has loaded, else one compiled at once.

    Raises
    ------
    UnsupportedError, CompilerMissingError
        As for `conv3d_transpose`.
    """
    from tvm_conv3dt.runtime.bundle import load, loaded

    bundles = [bundle for bundle in loaded() if bundle.manifest.platform.kind != "cuda"]
    for bundle in bundles:
        if workload in bundle:
            return bundle
    try:
        from tvm_conv3dt.compiler import cache
    except ImportError as error:
        if getattr(error, "name", None) == "tvm" and not isinstance(error, ModuleNotFoundError):
            # A bundle's runtime library stands in its way: see `runtime.library`.
            rule = f"it is to be compiled, and {error}"
            raise CompilerMissingError(
                describe("call", "conv3d_transpose", workload.id, rule)
            ) from error
        held = sorted({each.id for bundle in bundles for each in bundle.workloads.values()})
        raise CompilerMissingError(
            describe(
                "call",
                "conv3d_transpose",
                workload.id,
                f"the compiler is not installed, and the loaded bundles hold {', '.join(held) or 'nothing'}",
                "load a bundle that holds it, or pip install 'tvm-conv3dt[compiler]'",
            )
        ) from error
    bundle = load(cache.bundle_for(workload))
    with _lock:
        _compiled[workload] = bundle
        while len(_compiled) > _COMPILED_KEPT:
            del _compiled[next(iter(_compiled))]
    return bundle


def _loaded_for_gpus(workload: Workload) -> Bundle:
    from tvm_conv3dt.runtime.bundle import loaded

    bundles = [bundle for bundle in loaded() if bundle.manifest.platform.kind == "cuda"]
    for bundle in bundles:
        if workload in bundle:
            return bundle
    held = ", ".join(sorted({each.id for bundle in bundles for each in bundle.workloads.values()}))
    rule = f"an array is on a GPU, and the loaded bundles for GPUs hold {held or 'nothing'}"
    mend = (
        f"build one with: tvm-conv3dt build --workloads {workload.id} --device DEVICE --allow-untuned -o DIR, for a device "
        "that tvm-conv3dt device --list tells, and load it with: tvm_conv3dt.load(DIR)"
    )
    raise WorkloadNotFoundError(describe("call", "conv3d_transpose", workload.id, rule, mend))
