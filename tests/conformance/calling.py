"""How the public function is called, wherever a workload says what with."""

from __future__ import annotations

import tvm_conv3dt
from tvm_conv3dt.spec import Workload


def by_function(workload: Workload, x, filters, bias=None, **out):
    """Call `conv3d_transpose` as a workload says."""
    return tvm_conv3dt.conv3d_transpose(
        x,
        filters,
        workload.output_shape,
        workload.strides,
        workload.padding,
        workload.data_format,
        workload.dilations,
        bias=bias,
        activation=workload.activation,
        alpha=workload.alpha,
        precision=workload.precision,
        **out,
    )
