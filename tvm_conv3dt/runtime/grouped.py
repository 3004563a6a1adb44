"""Operators side by side: one for each group of channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tvm_conv3dt.errors import ArrayError, describe
from tvm_conv3dt.runtime.operator import Operator
from tvm_conv3dt.spec import Workload

__all__ = ["GroupedOperator"]


class GroupedOperator:
    """One workload's operators, each with the filters of one group, over slices of the channels.

    Call it as an `Operator`. The slices are used where they lie if they are contiguous, as those of one NCDHW volume
    are; else they are copied.

    Parameters
    ----------
    operators : sequence of Operator
        One for each group, in order, all of one workload.
    batched : bool
        Whether arrays have a batch's axis; without it the workload's batch is 1.
    """

    def __init__(self, operators: Sequence[Operator], batched: bool = True) -> None:
        self._operators = tuple(operators)
        self._batched = batched

    @property
    def groups(self) -> int:
        """How many groups of channels there are."""
        return len(self._operators)

    @property
    def workload(self) -> Workload:
        """What one group computes."""
        return self._operators[0].workload

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Run the operators.

        Parameters
        ----------
        x : array-like
            The workload's input shape with the channels of all groups, or a batch that is a multiple of the
            workload's; what `Operator` takes.
        out : array or None
            Where to write the result, as for `Operator`.

        Returns
        -------
        array
            `out`, or a new one of the framework that `x` is of.

        Raises
        ------
        ArgumentTypeError, ArrayError, LibraryError
            As for `Operator`.
        """
        if self._batched and self.groups == 1:
            return self._operators[0](x, out)
        dtype, place = self.workload.numpy_dtype, self._operators[0].place
        given = place.divisible("x", x, dtype)
        shape = self._output_shape(tuple(given.shape))
        source = given if self._batched else given[None]
        read = self._slices(source, self.workload.in_channels)
        join = place.joiner(given) if out is None else None
        if join is not None:
            parts = [operator(each) for operator, each in zip(self._operators, read, strict=True)]
            whole = join(parts, self._channels)
            return whole if self._batched else whole[0]
        result = place.target(out, given, shape, dtype)
        target = result if self._batched else result[None]
        written = self._slices(target, self.workload.out_channels)
        for operator, *pair in zip(self._operators, read, written, strict=True):
            operator(*pair)
        return place.given(result, out, x)

    def empty(self) -> Any:
        """Return a new array for `out`, with undefined content; see `Operator.empty`."""
        shape = self._whole(self.workload.output_shape)
        return self._operators[0].place.empty(shape, self.workload.numpy_dtype)

    def __repr__(self) -> str:
        return f"<GroupedOperator of {self.groups}: {self.workload.id}>"

    @property
    def _channels(self) -> int:
        return self.workload.data_format.index("C")

    def _slices(self, array: Any, channels: int) -> Iterator[Any]:
        index: list[Any] = [slice(None)] * 5
        for group in range(self.groups):
            index[self._channels] = slice(group * channels, (group + 1) * channels)
            yield array[tuple(index)]

    def _output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        expected, result = (
            self._whole(each) for each in (self.workload.input, self.workload.output_shape)
        )
        if not self._batched:
            if shape != expected:
                rule = f"this operator takes the shape {list(expected)}"
                raise ArrayError(describe("use", "array x", f"shape={list(shape)}", rule))
            return result
        if len(shape) != 5 or shape[1:] != expected[1:] or not shape[0] or shape[0] % expected[0]:
            rule = f"this operator takes the shape {list(expected)}, or a multiple of its batch"
            raise ArrayError(describe("use", "array x", f"shape={list(shape)}", rule))
        return shape[0], *result[1:]

    def _whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        sizes = list(shape)
        sizes[self._channels] *= self.groups
        return tuple(sizes if self._batched else sizes[1:])
