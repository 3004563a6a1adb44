"""The arithmetic of one axis: strides and dilations as phases.

Output position ``o`` takes input position ``i`` through tap ``t`` when
``o + pad == stride * i + dilation * t``. Written with ``o = stride * q + r``, the phase ``r`` decides
which taps there are, and each phase is a dense convolution over ``q``: nothing is multiplied by an
inserted zero, and nothing is scattered.

With ``g = gcd(stride, dilation)`` a phase has taps only where ``g`` divides ``r + pad``. They are
``t = first_tap(r) + j * tap_step`` with ``tap_step = stride / g``, and tap ``j`` of position ``q``
reads input ``q + first_input(r) - j * input_step`` with ``input_step = dilation / g``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import Any

__all__ = ["Axis"]


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a transposed convolution.

    Parameters
    ----------
    input, output : int
        Sizes of the input and of the output along this axis.
    kernel, stride, dilation : int
        Taps, stride and dilation along this axis.
    pad : int
        Positions cut off before the output: ``pad_before`` of TensorFlow's padding rule. Of an axis without its first
        taps it may be less than 0.
    skipped : int
        Taps of the filter before the first one of the axis, see `reduced`.
    """

    input: int
    output: int
    kernel: int
    stride: int
    dilation: int
    pad: int
    skipped: int = 0

    def reduced(self) -> Axis:
        """Return an axis of the same result that is better to compute.

        With a single input position the stride decides on nothing, and one that is as large as the output
        leaves each phase one position and at most one tap: a product without zeros around the input.

        With more of them there are no taps, at the ends, by which no input reaches an output: those of a wide dilation
        would have as many zeros read around the input.
        """
        if self.input != 1:
            return self._of_taps_that_meet()
        spans = max(-(-(self.output + self.pad) // self.dilation), self.kernel)
        return replace(self, stride=self.dilation * spans)

    def _of_taps_that_meet(self) -> Axis:
        first = next(filter(self._tap_meets, range(self.kernel)), 0)
        last = next(filter(self._tap_meets, reversed(range(self.kernel))), self.kernel - 1)
        if last - first + 1 == self.kernel:
            return self
        return replace(
            self,
            kernel=last - first + 1,
            # A single tap has no distance to others, and strides have the simpler phases without one.
            dilation=self.dilation if last > first else 1,
            pad=self.pad - self.dilation * first,
            skipped=self.skipped + first,
        )

    @property
    def gcd(self) -> int:
        """The greatest common divisor of stride and dilation."""
        return gcd(self.stride, self.dilation)

    @property
    def quotients(self) -> int:
        """How many positions ``q`` a phase has; the last may lie past the output's end."""
        return -(-self.output // self.stride)

    @property
    def phases(self) -> int:
        """How many phases the output has: the stride, or the output's size where that is less."""
        return min(self.stride, self.output)

    @property
    def exact(self) -> bool:
        """Whether every phase has every position, so that no output lies past the end."""
        return self.quotients * self.phases == self.output

    @property
    def tap_step(self) -> int:
        """Distance between two taps of one phase."""
        return self.stride // self.gcd

    @property
    def input_step(self) -> int:
        """Distance between the inputs of two neighbouring taps of one phase."""
        return self.dilation // self.gcd

    @property
    def taps(self) -> int:
        """The largest number of taps that any phase can have."""
        return -(-self.kernel // self.tap_step)

    @property
    def uniform(self) -> bool:
        """Whether every phase has exactly `taps` taps."""
        return all(self.phase_taps(r) == self.taps for r in range(self.phases))

    def first_tap(self, r: Any) -> Any:
        """Return the first tap of phase `r`, meaningful where `reached` holds.

        `r` may be an int or an integer expression of a compiler, here and in `first_input`.
        """
        if self.tap_step == 1:
            return r * 0
        inverse = pow(self.input_step, -1, self.tap_step)
        return (r + self.pad) // self.gcd * inverse % self.tap_step

    def first_input(self, r: Any) -> Any:
        """Return the input position, less ``q``, that the first tap of phase `r` reads."""
        return (r + self.pad - self.dilation * self.first_tap(r)) // self.stride

    def reached(self, r: int) -> bool:
        """Whether phase `r` has a tap at all; where none does, the output is zero."""
        return (r + self.pad) % self.gcd == 0 and bool(self.first_tap(r) < self.kernel)

    def phase_taps(self, r: int) -> int:
        """Return how many taps phase `r` has."""
        if not self.reached(r):
            return 0
        return -(-(self.kernel - int(self.first_tap(r))) // self.tap_step)

    @property
    def meets(self) -> bool:
        """Whether any input reaches any output.

        By a wide dilation all taps may lead past a small one, and an explicit padding may cut off all that there is.
        """
        return any(map(self._tap_meets, range(self.kernel)))

    @property
    def pairs(self) -> int:
        """How many pairs of an input position and a tap reach an output."""
        return sum(map(self._inputs_of, range(self.kernel)))

    def _tap_meets(self, tap: int) -> bool:
        return self._inputs_of(tap) > 0

    def _inputs_of(self, tap: int) -> int:
        """Return how many input positions reach an output by a tap."""
        start = self.dilation * tap - self.pad  # where input 0 lands
        first = max(0, -(start // self.stride))
        last = min(self.input - 1, (self.output - 1 - start) // self.stride)
        return max(0, last - first + 1)

    @property
    def reads(self) -> tuple[int, int]:
        """First and last input position, outside the input too, of any tap number of any phase.

        Tap numbers that a phase does not have count as well: a kernel may then skip them by a condition on
        the arithmetic alone, and every address that it forms lies inside.
        """
        offsets = [self.first_input(r) for r in range(self.phases)]
        first = min(offsets) - (self.taps - 1) * self.input_step
        return int(first), int(max(offsets)) + self.quotients - 1

    @property
    def halo(self) -> tuple[int, int]:
        """Zeros to put before and after the input so that every read lies inside."""
        first, last = self.reads
        return max(0, -first), max(0, last - (self.input - 1))

    @property
    def offsets(self) -> tuple[int, int]:
        """First and last input position, less ``q``, that any tap of any phase reads.

        Between them lie the taps of the axis when its phases are folded into the channels: one for each input
        position, the same for all phases, and zero where a phase has no such tap.
        """
        inputs = [
            self.first_input(r) - j * self.input_step
            for r in range(self.phases)
            for j in range(self.phase_taps(r))
        ]
        return min(inputs, default=0), max(inputs, default=0)

    @property
    def folded_taps(self) -> int:
        """How many taps the axis has with its phases folded into the channels."""
        first, last = self.offsets
        return last - first + 1

    @property
    def folded_halo(self) -> tuple[int, int]:
        """As `halo`, with the phases folded into the channels."""
        first, last = self.offsets
        return max(0, -first), max(0, self.quotients - 1 + last - (self.input - 1))
