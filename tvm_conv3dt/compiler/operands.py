"""The operator's inputs as tensors, and what is done with every sum, whatever the formulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from tvm import te, tirx

from tvm_conv3dt.compiler.activation import activation_of
from tvm_conv3dt.compiler.elements import array_shape, index_of, narrow, stored_dtype, turns, widen
from tvm_conv3dt.spec import Workload

__all__ = ["Margins", "Operands"]

Margins: TypeAlias = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Operands:
    """The operator's inputs.

    Attributes
    ----------
    workload : Workload
    x, packed, bias : tvm.te.Tensor
        Input and bias in the workload's dtype, the former in its format; packed filters in that of the sums.
    """

    workload: Workload
    x: Any
    packed: Any
    bias: Any

    @classmethod
    def of(cls, workload: Workload, packed_shape: tuple[int, ...]) -> Operands:
        """Make the tensors."""
        stored = stored_dtype(workload)
        x = te.placeholder(array_shape(workload.input), stored, "x")
        packed = te.placeholder(array_shape(packed_shape), workload.sum_dtype, "packed")
        bias = te.placeholder((workload.out_channels,), stored, "bias")
        return cls(workload, x, packed, bias)

    @property
    def arguments(self) -> list[Any]:
        """The tensors that the operator takes."""
        return [self.x, self.packed, self.bias] if self.workload.bias else [self.x, self.packed]

    def element(self, n: Any, d: Any, h: Any, w: Any, c: Any) -> Any:
        """Return an element of the input, widened."""
        index = tuple(index_of(self.workload, n, d, h, w, c))
        return widen(self.x[index], self.x.dtype)

    def turned(self, margins: Margins) -> Any:
        """Return the input as the block ``turned``: widened, channels last.

        `margins` are rows before and after those of depth and height, which no kernel reads. They repeat the outermost
        ones: a copy of rows for a task at the border then needs no condition, under which TVM finds no bounds of it.
        """
        workload = self.workload
        sizes = workload.input_spatial

        def element(n: Any, d: Any, h: Any, w: Any, c: Any) -> Any:
            depth, height = (
                tirx.max(tirx.min(index - before, size - 1), 0) if before + after else index
                for index, size, (before, after) in zip((d, h), sizes, margins, strict=False)
            )
            return self.element(n, depth, height, w, c)

        depth, height = (
            before + size + after for size, (before, after) in zip(sizes, margins, strict=False)
        )
        shape = (workload.batch, depth, height, sizes[2], workload.in_channels)
        return te.compute(shape, element, "turned")

    def result(self, total: Any, channel: Any) -> Any:
        """Return what becomes of a sum: bias, activation, and the output's dtype where it is stored there at once."""
        workload = self.workload
        if workload.bias:
            total = total + widen(self.bias[channel], self.bias.dtype)
        value = activation_of(workload)(total)
        if turns(workload, workload.out_channels):
            return value
        return narrow(value, stored_dtype(workload))
