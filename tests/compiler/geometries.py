"""Geometries that are special, on which every formulation is tried."""

from tvm_conv3dt.spec import Workload

# What is special about the geometry -> input, kernel, output, strides, padding, dilations.
COMMON = {
    "kernel below stride": ((2, 3, 2), (1, 2, 1), (6, 9, 8), (3, 3, 4), "SAME", 1),
    "taps differ by phase": ((2, 3, 4), (3, 3, 5), (4, 6, 8), (2, 2, 2), "SAME", 1),
    "zero tail": ((2, 2, 2), (1, 2, 3), (6, 7, 8), (3, 3, 3), "VALID", 1),
    "dilation": ((3, 3, 3), (2, 3, 2), (3, 3, 3), (1, 1, 1), "SAME", (3, 2, 4)),
    "dilation prime to stride": ((2, 2, 3), (3, 2, 3), (4, 6, 6), (2, 3, 2), "SAME", (3, 2, 5)),
    "dilation and stride share": ((2, 2, 3), (3, 2, 3), (8, 8, 12), (4, 4, 4), "SAME", (2, 4, 6)),
    "one position": ((1, 1, 1), (4, 4, 4), (4, 4, 4), (1, 1, 1), "VALID", 1),
}


def make(geometry, batch, in_channels, out_channels):
    """The workload of a geometry."""
    size, kernel, output, strides, padding, dilations = geometry
    return Workload.make(
        (batch, *size, in_channels),
        (*kernel, out_channels, in_channels),
        (batch, *output, out_channels),
        strides,
        padding,
        dilations=dilations,
    )


def evenly(channels, width=9, stride=2, kernel=3, tail=0, **more):
    """The same kernel and stride on every axis, and an output that ends early on all."""
    in_channels, out_channels = channels
    sizes = (2, 3, width)
    output = [each * stride - min(tail, stride - 1) for each in sizes]
    return Workload.make(
        (1, *sizes, in_channels),
        (*[kernel] * 3, out_channels, in_channels),
        (1, *output, out_channels),
        stride,
        **more,
    )
