"""A workload: one call of ``tf.nn.conv3d_transpose`` with fixed shapes, as a frozen value.

An illegal workload cannot be made: every way to make one goes through TensorFlow's rules. All arithmetic is
Python's own, so no input overflows, and nothing here allocates what the shapes speak of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import prod
from typing import Any

import numpy as np

from tvm_conv3dt import arguments, size_rules, workload_id
from tvm_conv3dt.arguments import refuse
from tvm_conv3dt.bfloat16 import numpy_dtype
from tvm_conv3dt.errors import ArgumentTypeError, WorkloadError, describe, show
from tvm_conv3dt.phases import Axis

__all__ = [
    "ACTIVATIONS",
    "DATA_FORMATS",
    "DTYPES",
    "FLOAT16_TERMS",
    "PADDINGS",
    "PRECISIONS",
    "Workload",
]

PADDINGS = ("SAME", "VALID")
DATA_FORMATS = ("NDHWC", "NCDHW")
ACTIVATIONS = ("relu", "leaky_relu", "elu", "sigmoid", "tanh")
DTYPES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
"""The element types, with their sizes in bytes."""
PRECISIONS = {"bfloat16": "float32", "float32": "float32", "float16": "float16"}
"""What kernels may compute in where a caller says so by name, each with the dtype of the arrays that it is for."""
FLOAT16_TERMS = 128
"""How many products are added in float16 at most, where `Workload.precision` permits it, before they go on in float32."""

_DEFAULT_ALPHA = {"leaky_relu": 0.2, "elu": 1.0}


@dataclass(frozen=True)
class Workload:
    """One call of the operator with fixed shapes.

    `Workload.make` has TensorFlow's defaults; `Workload` itself takes every field. Both accept what
    TensorFlow accepts (an int for the strides, arrays for shapes) and hold it in one normal form.

    Parameters
    ----------
    input : tuple of int
        The input's shape, in `data_format` order.
    filters : tuple of int
        The filters' shape ``[kd, kh, kw, out_channels, in_channels]``, whatever the format.
    output_shape : tuple of int
        The output's shape, in `data_format` order.
    strides : tuple of int
        For depth, height and width.
    padding : str or tuple of int
        ``"SAME"``, ``"VALID"``, or how many positions are cut off before depth, height and width;
        `output_shape` then says how many at the end, or how many zeros follow. TensorFlow has only the two
        names, PyTorch and ONNX need the numbers. Numbers that are those of ``"VALID"``, or else of ``"SAME"``, are
        held by that name where it allows the sizes, so that one call has one workload.
    data_format : str
        ``"NDHWC"`` or ``"NCDHW"``.
    dilations : tuple of int
        For depth, height and width.
    dtype : str
        ``"float32"``, ``"float64"``, ``"float16"`` or ``"bfloat16"``; of input, filters and output.
    bias : bool
        Whether one value per output channel is added.
    activation : str or None
        What follows the bias: ``"relu"``, ``"leaky_relu"``, ``"elu"``, ``"sigmoid"`` or ``"tanh"``.
    alpha : float or None
        Of ``"leaky_relu"`` (0.2 where None) and ``"elu"`` (1.0 where None), else None.
    precision : str or None
        What kernels may compute in; docs/precision.md states the errors. TensorFlow has no such argument. The half types are
        permissions: a device without instructions for them computes in float32, which is more exact.

        ``"bfloat16"``, of float32 arrays only: kernels may round elements of input and filters to bfloat16 (to nearest,
        ties to even) before they are multiplied; sums, bias, activation and output stay float32. An output's error grows
        by less than 2**-7 of the sum of its products' magnitudes, and not at all where both factors are bfloat16
        numbers, as integers up to 256 are.

        ``"float32"``, of float32 arrays only: kernels multiply each input with its own taps, as float32 numbers, and add these
        products up. Without it they may split numbers into pieces, or add neighbours before they multiply.

        ``"float16"``, of float16 arrays only: kernels may multiply and add in float16, up to `FLOAT16_TERMS` products;
        such sums are added in float32, as are bias and activation. An output's error grows by up to a
        fifteenth of the sum of its products' magnitudes, and a sum beyond 65504 becomes infinite.

    Raises
    ------
    WorkloadError
        If TensorFlow's rules do not allow these values, or there is a precision for another dtype than its own.
    ArgumentTypeError
        If a value has the wrong type: a bool or a float as a size, an integer dtype.
    """

    input: tuple[int, int, int, int, int]
    filters: tuple[int, int, int, int, int]
    output_shape: tuple[int, int, int, int, int]
    strides: tuple[int, int, int]
    padding: str | tuple[int, int, int]
    data_format: str
    dilations: tuple[int, int, int]
    dtype: str
    bias: bool
    activation: str | None
    alpha: float | None
    precision: str | None = None

    def __post_init__(self) -> None:
        self._normalise()
        size_rules.check(self)

    @classmethod
    def make(
        cls,
        input: Any,
        filters: Any,
        output_shape: Any,
        strides: Any,
        padding: Any = "SAME",
        data_format: Any = "NDHWC",
        dilations: Any = None,
        dtype: Any = "float32",
        bias: Any = False,
        activation: Any = None,
        alpha: Any = None,
        precision: Any = None,
    ) -> Workload:
        """Make a workload from TensorFlow's arguments, with TensorFlow's defaults.

        Parameters
        ----------
        input, filters, output_shape : sequence of int
            The three shapes, of five sizes each.
        strides, dilations : int, sequence of int, or None
            One value; or 1, 3 or 5 of them, the five in `data_format` order; None means ones.
        padding, data_format, dtype, bias, activation, alpha, precision
            As for the class; a `data_format` of None means ``"NDHWC"``, and `dtype` may also be
            anything that carries a dtype's name.

        Returns
        -------
        Workload
            The checked workload.

        Raises
        ------
        WorkloadError, ArgumentTypeError
            As for the class.
        """
        if data_format is None:
            data_format = "NDHWC"
        shapes = (input, filters, output_shape)
        geometry = (strides, padding, data_format, dilations)
        return cls(*shapes, *geometry, dtype, bias, activation, alpha, precision)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Workload:
        """Make a workload from `to_dict`'s form; fields that have a default may be missing.

        Raises
        ------
        WorkloadError, ArgumentTypeError
            If a field is unknown or missing, or as for the class.
        """
        if not isinstance(values, Mapping):
            raise ArgumentTypeError(
                describe("make", "workload", show(values), "it must be a mapping of its fields")
            )
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise refuse(str(name), values[name], f"the fields are {', '.join(known)}")
        for name in ("input", "filters", "output_shape", "strides"):
            if name not in values:
                raise WorkloadError(
                    describe(
                        "make", "workload", f"fields {show(list(values))}", f"{name} is missing"
                    )
                )
        return cls.make(**values)

    @classmethod
    def from_id(cls, text: str) -> Workload:
        """Make the workload of an id.

        Raises
        ------
        WorkloadError
            If the text is not the id of a legal workload.
        """
        workload = cls.make(**workload_id.parse(text))
        if workload.id != text:  # leading zeros, an alpha left out: one workload has one id
            raise WorkloadError(
                describe("read", "workload id", show(text), f"it is written {workload.id}")
            )
        return workload

    def to_dict(self) -> dict[str, Any]:
        """Return the fields under TensorFlow's argument names, shapes as lists: JSON's values only.

        A precision of None is left out: files without one are what they were before there was this field, and earlier
        versions of the package, which refuse fields that they do not know, read them.
        """
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name != "precision" or value is not None
        }

    def recast(
        self,
        data_format: str | None = None,
        dtype: str | None = None,
        precision: str | None = None,
    ) -> Workload:
        """Return the same computation on arrays of another format or dtype, or with another precision.

        None keeps what there is; but a precision is of its dtype, and goes with it.

        Raises
        ------
        WorkloadError
            If there is a precision for another dtype than its own.
        """
        data_format = data_format or self.data_format
        if dtype in (None, self.dtype):
            precision = precision or self.precision
        channel = self.data_format.index("C")

        def shape(sizes: tuple[int, ...]) -> tuple[int, ...]:
            batch, *rest = sizes
            channels = rest.pop(channel - 1)
            return (batch, *rest, channels) if data_format == "NDHWC" else (batch, channels, *rest)

        return Workload.make(
            **{
                **self.to_dict(),
                "input": shape(self.input),
                "output_shape": shape(self.output_shape),
                "data_format": data_format,
                "dtype": dtype or self.dtype,
                "precision": precision,
            }
        )

    @property
    def id(self) -> str:
        """The workload as one readable string, also a C identifier and a file name."""
        return workload_id.render(self)

    @property
    def batch(self) -> int:
        """How many volumes."""
        return self.input[0]

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.filters[4]

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.filters[3]

    @property
    def kernel(self) -> tuple[int, int, int]:
        """Taps along depth, height and width."""
        return self.filters[:3]

    @property
    def input_spatial(self) -> tuple[int, int, int]:
        """The input's depth, height and width, whatever the format."""
        return self._spatial(self.input)

    @property
    def output_spatial(self) -> tuple[int, int, int]:
        """The output's depth, height and width, whatever the format."""
        return self._spatial(self.output_shape)

    @property
    def pad_before(self) -> tuple[int, int, int]:
        """Positions cut off before depth, height and width of the output."""
        depth, height, width = (axis.pad for axis in self.axes)
        return depth, height, width

    @property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        """Depth, height and width, each with its sizes, stride, dilation and padding."""
        depth, height, width = (self._axis(index) for index in range(3))
        return depth, height, width

    @property
    def phase_axes(self) -> tuple[Axis, Axis, Axis]:
        """Depth, height and width as kernels compute them: see `Axis.reduced`."""
        depth, height, width = self.axes
        return depth.reduced(), height.reduced(), width.reduced()

    @property
    def reached(self) -> bool:
        """Whether any output takes any input: else there is nothing but bias and activation to compute."""
        return all(axis.meets for axis in self.axes)

    @property
    def flops(self) -> int:
        """Operations, 2 per product: every input element meets every filter tap once, as it is counted in the literature.

        `reaching` says how many of them there are to do.
        """
        return 2 * self.batch * prod(self.input_spatial) * prod(self.filters)

    @property
    def reaching(self) -> float:
        """The share of the products that `flops` counts which reach an output: padding and sizes cut off the others."""
        return prod(axis.pairs / (axis.input * axis.kernel) for axis in self.axes)

    @property
    def bytes(self) -> int:
        """Bytes of input, filters, output and bias, each once: what memory must move at least."""
        elements = prod(self.input) + prod(self.filters) + prod(self.output_shape)
        return (elements + self.bias * self.out_channels) * self.itemsize

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return DTYPES[self.dtype]

    @property
    def sum_dtype(self) -> str:
        """What kernels add in: float64 for float64, float32 for all others; on CPUs packed filters too."""
        return "float64" if self.dtype == "float64" else "float32"

    @property
    def product_dtype(self) -> str:
        """The type that the factors of products may have: the arrays' own or `precision`, else `sum_dtype`.

        The half types' products are exact in `sum_dtype`, so wider factors of the same values give the same.
        """
        return self.precision or (self.sum_dtype if self.itemsize > 2 else self.dtype)

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """NumPy's dtype of the arrays.

        Raises
        ------
        UnsupportedError
            For bfloat16 where the package ml_dtypes, which brings it to NumPy, is not installed.
        """
        return numpy_dtype(self.dtype)

    def _spatial(self, shape: tuple[int, int, int, int, int]) -> tuple[int, int, int]:
        first = self.data_format.index("D")
        depth, height, width = shape[first : first + 3]
        return depth, height, width

    def _axis(self, index: int) -> Axis:
        sizes = self.input_spatial[index], self.output_spatial[index], self.kernel[index]
        axis = Axis(*sizes, self.strides[index], self.dilations[index], 0)
        if isinstance(self.padding, str):
            return replace(axis, pad=size_rules.pad_before(self.padding, axis))
        return replace(axis, pad=self.padding[index])

    def _normalise(self) -> None:
        def hold(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        hold("padding", arguments.padding("padding", self.padding, PADDINGS))
        hold("data_format", arguments.choice("data_format", self.data_format, DATA_FORMATS))
        hold("dtype", arguments.dtype_name("dtype", self.dtype, tuple(DTYPES)))
        for name in ("input", "filters", "output_shape"):
            hold(name, arguments.sizes(name, getattr(self, name)))
        for name in ("strides", "dilations"):
            hold(name, arguments.per_axis(name, getattr(self, name), self.data_format))
        hold("padding", size_rules.named(self.padding, self.axes))
        hold("bias", arguments.flag("bias", self.bias))
        if self.activation is not None:
            hold("activation", arguments.choice("activation", self.activation, ACTIVATIONS))
        default = _DEFAULT_ALPHA.get(self.activation or "")
        if self.alpha is None:
            hold("alpha", default)
        elif default is None:
            allowed = " and ".join(_DEFAULT_ALPHA)
            raise refuse(
                "alpha", self.alpha, f"only {allowed} have an alpha, not {self.activation}"
            )
        else:
            hold("alpha", arguments.number("alpha", self.alpha))
            if abs(float(self.alpha)) > float(np.finfo(self.sum_dtype).max):
                raise refuse("alpha", self.alpha, f"{self.sum_dtype} must hold it")
        if self.precision is not None:
            hold("precision", arguments.choice("precision", self.precision, tuple(PRECISIONS)))
            if self.dtype != PRECISIONS[self.precision]:
                rule = (
                    f"it is for arrays of {PRECISIONS[self.precision]}, and dtype is {self.dtype}"
                )
                raise refuse("precision", self.precision, rule, "leave it out")
