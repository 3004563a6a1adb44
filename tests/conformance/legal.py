"""Legal calls, corner cases more often than not, each so small that compiling it takes longest."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import NamedTuple

from hypothesis import strategies as st

from tvm_conv3dt.errors import UnsupportedError
from tvm_conv3dt.spec import ACTIVATIONS, DATA_FORMATS, DTYPES, PADDINGS, Workload

FLOPS = 2_000_000
OUTPUTS = 100_000  # elements: the reference holds them in float64

# Stride and dilation: coprime, one a multiple of the other, with a common factor that is neither.
COPRIME = [(2, 3), (3, 2), (4, 3), (1, 2), (1, 3)]
MULTIPLES = [(2, 2), (3, 3), (4, 2), (2, 4), (3, 6)]
COMMON_FACTOR = [(4, 6), (6, 4)]
PLAIN = [(1, 1), (2, 1), (3, 1), (4, 1)]

# One channel, odd ones, and around the vectors of 4, 8, 16 and 32 elements.
CHANNELS = [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 40]
SIZES = [1, 2, 3, 4, 5, 7, 9]
LONG = [15, 16, 17, 33]


class Line(NamedTuple):
    """One axis of a call."""

    size: int
    output: int
    kernel: int
    stride: int
    dilation: int


def unsupported() -> dict[tuple[str, str], UnsupportedError]:
    """Return the dtypes and data formats that are legal and not compiled yet: nowhere else is this asked."""
    from tvm_conv3dt.compiler.kernel import require_supported

    refused = {}
    for dtype, data_format in product(DTYPES, DATA_FORMATS):
        workload = Workload.make([1] * 5, [1] * 5, [1] * 5, 1, data_format=data_format, dtype=dtype)
        try:
            require_supported(workload)
            _ = workload.numpy_dtype
        except UnsupportedError as error:
            refused[dtype, data_format] = error
    return refused


def supported() -> list[tuple[str, str]]:
    """Return the pairs of dtype and data format that compile."""
    refused = unsupported()
    return [pair for pair in product(DTYPES, DATA_FORMATS) if pair not in refused]


@st.composite
def lines(draw: st.DrawFn, padding: str) -> Line:
    """Draw one axis: what is special about it first, then the rest."""
    special = draw(
        st.sampled_from(["nothing", "one wide", "holes", "kernel of all", "one tap", "long"])
    )
    pairs = st.sampled_from(PLAIN + PLAIN) | st.sampled_from(COPRIME + MULTIPLES + COMMON_FACTOR)
    stride, dilation = draw(pairs)
    size = draw(st.sampled_from(SIZES))
    kernel = draw(st.integers(1, 5))
    if special == "one wide":
        size = 1
    elif special == "holes":
        stride, dilation = draw(st.sampled_from([(2, 1), (3, 1), (4, 1), (3, 2), (4, 3)]))
        kernel = draw(st.integers(1, stride - 1))
    elif special == "kernel of all":
        kernel = size = draw(st.integers(1, 5))
    elif special == "one tap":
        kernel = 1
    elif special == "long":
        size = draw(st.sampled_from(LONG))
    least = (size - 1) * stride + 1
    if padding == "VALID":
        least += (kernel - 1) * dilation  # what is above is a tail of zeros
    most = least + stride - 1
    output = draw(st.sampled_from([least, most]) | st.integers(least, most))
    return Line(size, output, kernel, stride, dilation)


@st.composite
def workloads(
    draw: st.DrawFn,
    pairs: list[tuple[str, str]],
    *,
    bias: bool = True,
    activations: tuple[str | None, ...] = (None, *ACTIVATIONS),
) -> Workload:
    """Draw a legal workload.

    Parameters
    ----------
    pairs
        Of dtype and data format, from which one is drawn.
    bias, activations
        What may follow the sum.
    """
    padding = draw(st.sampled_from(PADDINGS))
    axes: list[Line] = []
    for _ in range(3):
        line = draw(lines(padding))
        # One long axis is enough, and too many outputs would only take time.
        if prod(each.output for each in [*axes, line]) > OUTPUTS or (
            line.size in LONG and any(each.size in LONG for each in axes)
        ):
            line = Line(1, 1, 1, 1, 1)
        axes.append(line)
    dtype, data_format = draw(st.sampled_from(pairs))
    per_channels = 2 * prod(a.size * a.kernel for a in axes)
    outputs = prod(a.output for a in axes)
    batch = draw(st.sampled_from([1, 1, 2, 3]))
    fits = [c for c in CHANNELS if c == 1 or batch * c * per_channels <= FLOPS]
    in_channels = draw(st.sampled_from(fits))
    fits = [
        c
        for c in CHANNELS
        if c == 1
        or (batch * c * in_channels * per_channels <= FLOPS and batch * c * outputs <= OUTPUTS)
    ]
    out_channels = draw(st.sampled_from(fits))
    activation = draw(st.none() | st.sampled_from(activations))
    alpha = None
    if activation in ("leaky_relu", "elu"):
        alpha = draw(st.none() | st.sampled_from([0.01, 0.3, 1.5, -0.5]))

    def shape(sizes: list[int], channels: int) -> list[int]:
        spatial_last = data_format == "NCDHW"
        return [batch, channels, *sizes] if spatial_last else [batch, *sizes, channels]

    return Workload.make(
        shape([a.size for a in axes], in_channels),
        [*(a.kernel for a in axes), out_channels, in_channels],
        shape([a.output for a in axes], out_channels),
        [a.stride for a in axes],
        padding,
        data_format,
        [a.dilation for a in axes],
        dtype,
        draw(st.booleans()) if bias else False,
        activation,
        alpha,
    )
