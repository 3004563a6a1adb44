"""Legal calls, corner cases more often than not, each so small that compiling it takes longest."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tvm_conv3dt.spec import ACTIVATIONS, DATA_FORMATS, DTYPES, PADDINGS, PRECISIONS, Workload

EXPLICIT = "explicit"
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
    pad: int = 0


@st.composite
def lines(draw: st.DrawFn, padding: str, dilated: bool) -> Line:
    """Draw one axis: what is special about it first, then the rest."""
    special = draw(
        st.sampled_from(
            ["nothing", "one wide", "holes", "kernel of all", "one tap", "long", "apart"]
        )
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
    elif special == "apart":
        dilation = draw(st.sampled_from([size * stride, size * stride + 1, 40]))
    if not dilated:
        dilation = 1
    if padding == EXPLICIT:
        full = (size - 1) * stride + (kernel - 1) * dilation + 1
        most = full + max(stride, dilation) - 1  # the tail that PyTorch and ONNX allow
        pad = draw(st.integers(0, min(most - 1, full)))
        output = draw(st.just(most - pad) | st.integers(1, most - pad))
        return Line(size, output, kernel, stride, dilation, pad)
    least = (size - 1) * stride + 1
    if padding == "VALID":
        least += (kernel - 1) * dilation  # what is above is a tail of zeros
    most = least + stride - 1
    output = draw(st.sampled_from([least, most]) | st.integers(least, most))
    return Line(size, output, kernel, stride, dilation)


@st.composite
def workloads(
    draw: st.DrawFn,
    *,
    dtypes: tuple[str, ...] = tuple(DTYPES),
    data_formats: tuple[str, ...] = DATA_FORMATS,
    dilated: bool = True,
    epilogue: bool = True,
    explicit: bool = False,
    precision: bool = False,
) -> Workload:
    """Draw a legal workload; dilations, bias and activation, paddings of PyTorch and ONNX, precisions, only if so said."""
    padding = draw(st.sampled_from((*PADDINGS, EXPLICIT) if explicit else PADDINGS))
    axes: list[Line] = []
    for _ in range(3):
        line = draw(lines(padding, dilated))
        # One long axis is enough, and too many outputs would only take time.
        if prod(each.output for each in [*axes, line]) > OUTPUTS or (
            line.size in LONG and any(each.size in LONG for each in axes)
        ):
            line = Line(1, 1, 1, 1, 1)
        axes.append(line)
    dtype, data_format = draw(st.sampled_from(dtypes)), draw(st.sampled_from(data_formats))
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
    bias, activation, alpha = False, None, None
    if epilogue:
        bias = draw(st.booleans())
        activation = draw(st.none() | st.sampled_from(ACTIVATIONS))
    if activation in ("leaky_relu", "elu"):
        alpha = draw(st.none() | st.sampled_from([0.01, 0.3, 1.5, -0.5]))

    permitted = None
    precisions = [each for each, proper in PRECISIONS.items() if proper == dtype]
    if precision and precisions:
        permitted = draw(st.sampled_from((*precisions, None)))

    def shape(sizes: list[int], channels: int) -> list[int]:
        spatial_last = data_format == "NCDHW"
        return [batch, channels, *sizes] if spatial_last else [batch, *sizes, channels]

    return Workload.make(
        shape([a.size for a in axes], in_channels),
        [*(a.kernel for a in axes), out_channels, in_channels],
        shape([a.output for a in axes], out_channels),
        [a.stride for a in axes],
        [a.pad for a in axes] if padding == EXPLICIT else padding,
        data_format,
        [a.dilation for a in axes],
        dtype,
        bias,
        activation,
        alpha,
        permitted,
    )


def draw(count: int, number: int, **options: Any) -> list[Workload]:
    """Return different legal workloads, `count` of them, drawn from the seed `number`."""
    drawn: dict[Workload, None] = {}

    @settings(
        max_examples=3 * count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @seed(number)
    @given(workloads(**options))
    def take(workload: Workload) -> None:
        drawn[workload] = None

    take()
    assert len(drawn) >= count
    return list(drawn)[:count]
