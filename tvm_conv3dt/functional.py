"""`conv3d_transpose` with TensorFlow's signature: a loaded bundle's kernel, else one compiled at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_conv3dt.errors import ArgumentTypeError, CompilerMissingError, describe, show
from tvm_conv3dt.spec import DTYPES, Workload

if TYPE_CHECKING:
    from tvm_conv3dt.runtime import Bundle

__all__ = ["conv3d_transpose"]

# Keeps the bundles of the last workloads compiled here loaded, so that a loop over a few shapes finds them.
_COMPILED_KEPT = 64
_compiled: dict[Workload, Bundle] = {}


def conv3d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: str = "SAME",
    data_format: str = "NDHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Any:
    """Return the transpose of `conv3d`, as ``tf.nn.conv3d_transpose`` defines it.

    The kernel comes from a bundle that this process has loaded, if one holds the workload. Else it is
    compiled, with a schedule that fits or the design space's default point, and kept in a cache on disk:
    the first call with new shapes takes about a second.

    Parameters
    ----------
    input : array
        Shape ``[batch, depth, height, width, in_channels]`` for ``"NDHWC"``.
    filters : array
        Shape ``[depth, height, width, out_channels, in_channels]``, of the same dtype.
    output_shape : sequence of 5 int
        The result's shape, in the order of `data_format`.
    strides : int or sequence of 1, 3 or 5 int
        Strides of depth, height and width.
    padding : str
        ``"SAME"`` or ``"VALID"``.
    data_format : str
        ``"NDHWC"`` or ``"NCDHW"``.
    dilations : int or sequence of 1, 3 or 5 int, optional
        Dilations of depth, height and width.
    name : str, optional
        Taken for TensorFlow's sake, and not used.

    Returns
    -------
    ndarray
        Of shape `output_shape` and the input's dtype.

    Raises
    ------
    WorkloadError
        If shapes, strides or dilations do not go together.
    ArgumentTypeError
        If an argument has the wrong type, or the dtypes differ.
    UnsupportedError
        If it is legal and cannot be compiled yet.
    CompilerMissingError
        If no loaded bundle holds the workload, and the compiler is not installed.
    """
    del name
    x, weights = _array("input", input), _array("filters", filters)
    if x.dtype != weights.dtype:
        raise ArgumentTypeError(
            describe(
                "call",
                "conv3d_transpose",
                f"input of {x.dtype} and filters of {weights.dtype}",
                "they must have the same dtype",
            )
        )
    workload = Workload.make(
        x.shape,
        weights.shape,
        output_shape,
        strides,
        padding=padding,
        data_format=data_format,
        dilations=dilations,
        dtype=x.dtype.name,
    )
    return _bundle(workload).operator(workload, weights)(x)


def _array(name: str, value: Any) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(
            describe("read", name, show(value), f"it must be an array: {error}")
        ) from error
    if not hasattr(value, "dtype") and array.dtype.kind in "fiu":
        # Plain Python numbers have no dtype of their own: TensorFlow takes them as float32.
        array = array.astype(np.float32)
    if array.dtype.name not in DTYPES:
        raise ArgumentTypeError(
            describe("read", name, f"dtype {array.dtype}", f"it must be one of {', '.join(DTYPES)}")
        )
    return array


def _bundle(workload: Workload) -> Bundle:
    from tvm_conv3dt.runtime.bundle import load, loaded

    bundles = loaded()
    for bundle in bundles:
        if workload in bundle:
            return bundle
    try:
        from tvm_conv3dt.compiler.cache import bundle_for
    except ImportError as error:
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
    bundle = load(bundle_for(workload))
    _compiled[workload] = bundle
    while len(_compiled) > _COMPILED_KEPT:
        del _compiled[next(iter(_compiled))]
    return bundle
