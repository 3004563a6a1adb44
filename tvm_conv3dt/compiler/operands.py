"""The operator's inputs as tensors, and what is done with every sum, whatever the formulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx

from tvm_conv3dt.compiler.activation import activation_of
from tvm_conv3dt.compiler.elements import (
    STORED_BFLOAT16,
    array_shape,
    index_of,
    narrow,
    stored_dtype,
    widen,
)
from tvm_conv3dt.compiler.rows import Rows
from tvm_conv3dt.spec import Workload

__all__ = ["Operands"]


@dataclass(frozen=True)
class Operands:
    """The operator's inputs.

    Attributes
    ----------
    workload : Workload
    stores : bool
        Whether results are stored in the output at once, and not turned on the way.
    math_library : bool
        Whether activations are of functions of the target's library.
    casts : bool
        Whether results are cast to bfloat16 by `tvm_conv3dt.compiler.rounding`.
    x, packed, bias : tvm.te.Tensor
        Input and bias in the workload's dtype, the former in its format; packed filters in the layout's.
    """

    workload: Workload
    stores: bool
    math_library: bool
    casts: bool
    x: Any
    packed: Any
    bias: Any

    @classmethod
    def of(cls, layout: Rows) -> Operands:
        """Make the tensors of a layout's workload and packed filters."""
        workload, packed_shape = layout.workload, layout.packed_shape
        stored = stored_dtype(workload)
        x = te.placeholder(array_shape(workload.input), stored, "x")
        packed = te.placeholder(array_shape(packed_shape), layout.packed_dtype, "packed")
        bias = te.placeholder((workload.out_channels,), stored, "bias")
        how = not layout.turned_back, layout.math_library, layout.rounds_at_the_end
        return cls(workload, *how, x, packed, bias)

    @property
    def arguments(self) -> list[Any]:
        """The tensors that the operator takes."""
        return [self.x, self.packed, self.bias] if self.workload.bias else [self.x, self.packed]

    def stored(self, n: Any, d: Any, h: Any, w: Any, c: Any) -> Any:
        """Return an element of the input, as it is stored."""
        return self.x[tuple(index_of(self.workload, n, d, h, w, c))]

    def rounded(self, value: Any) -> Any:
        """Return an element that is multiplied in 16 bits: of float32, rounded to bfloat16."""
        return narrow(value, STORED_BFLOAT16, cast=True) if self.x.dtype == "float32" else value

    def widened(self, value: Any) -> Any:
        """Return an element that is computed with."""
        return widen(value, self.x.dtype)

    def element(self, n: Any, d: Any, h: Any, w: Any, c: Any) -> Any:
        """Return an element of the input, widened."""
        return self.widened(self.stored(n, d, h, w, c))

    def rows(self, layout: Rows) -> Callable[..., Any]:
        """Return what gives an element of the input, widened, by its index with channels last.

        Where rows are turned they are the block ``turned``. Its margins, which no kernel reads, repeat the outermost
        rows: a copy of rows for a task at the border then needs no condition, under which TVM finds no bounds of it.
        """
        return self._rows(layout, self.element)

    def stored_rows(self, layout: Rows) -> Callable[..., Any]:
        """As `rows`, of elements as they are stored."""
        return self._rows(layout, self.stored)

    def _rows(self, layout: Rows, read: Callable[..., Any]) -> Callable[..., Any]:
        if not layout.turned:
            return read
        workload = self.workload
        sizes = workload.input_spatial

        def element(n: Any, d: Any, h: Any, w: Any, c: Any) -> Any:
            depth, height = (
                tirx.max(tirx.min(index - before, size - 1), 0) if before + after else index
                for index, size, (before, after) in zip((d, h), sizes, layout.margins, strict=False)
            )
            return read(n, depth, height, w, c)

        shape = (workload.batch, *layout.row_sizes, sizes[2], workload.in_channels)
        turned: Callable[..., Any] = te.compute(shape, element, "turned")
        return turned

    def result(self, total: Any, channel: Any) -> Any:
        """Return what becomes of a sum: bias, activation, and the output's dtype where it is stored there at once."""
        workload = self.workload
        if workload.bias:
            total = total + widen(self.bias[channel], self.bias.dtype)
        value = activation_of(workload, self.math_library)(total)
        if not self.stores:
            return value
        return narrow(value, stored_dtype(workload), cast=self.casts)
