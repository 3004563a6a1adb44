"""Are kernels right whatever is cut off before and after, and is nothing touched that lies outside?"""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("tvm")

from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.schedule import default_schedule
from tvm_conv3dt.compiler.spaces import llvm
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import Workload

# What is special -> the id without its data format.
WORKLOADS = {
    "mirror image of SAME": "n1_x3x4x9x17_k3x3x3_y6x8x18x9_s2x2x2_d1x1x1_p1x1x1_f32",
    "first columns unread": "n2_x3x5x9x33_k4x2x1_y6x16x2x17_s2x3x1_d1x3x1_p3x1x7_f32",
    "last columns unread": "n1_x2x9x9x8_k1x2x1_y3x18x5x5_s3x2x1_d3x1x1_p2x0x1_f32",
    "most of a row unread": "n1_x2x2x9x33_k2x3x2_y5x3x3x32_s4x2x2_d1x2x1_p4x3x9_f32",
    "few output channels": "n1_x3x5x9x17_k4x4x3_y3x2x9x1_s1x2x2_d1x1x2_p0x7x13_f32",
    "long tail of zeros": "n1_x5x5x5x8_k3x2x2_y7x9x7x32_s1x2x1_d3x3x3_p6x3x3_f32",
    "no row left": "n1_x3x9x3x17_k2x4x1_y1x5x11x17_s1x4x4_d3x2x1_p6x36x0_f32",
    "no column left": "n2_x5x1x1x17_k4x3x1_y6x6x1x1_s1x3x1_d2x2x2_p3x1x1_f32",
}
FORMATS = ["ndhwc", "ncdhw"]


@pytest.fixture(params=FORMATS)
def data_format(request):
    return request.param


@pytest.mark.parametrize("name", WORKLOADS)
def test_default_kernel_is_exact(name, data_format, host, call):
    workload = Workload.from_id(f"{WORKLOADS[name]}_{data_format}_bias")
    default = default_schedule(workload, host)
    built = kernel.compile_kernel(default.layout(host), host, default.apply(host))
    data = integer_data(workload, seed=0)
    assert np.array_equal(call(built, *data), reference(workload, *data))


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_formulation_and_order_is_exact(name, data_format, host, call):
    workload = Workload.from_id(f"{WORKLOADS[name]}_{data_format}")
    x, filters, _ = integer_data(workload, seed=0)
    expected = reference(workload, x, filters)
    orders = {}
    for formulation in llvm.formulations(workload, host):
        layout = llvm.layout_of(workload, host, formulation)
        for family in llvm.families(layout, host):
            orders[formulation, family.order] = layout, family  # the largest tile of each
    for place, (layout, family) in orders.items():
        sch = kernel.new_schedule(layout)
        llvm.apply(sch, layout, host, family, lambda name, candidates: len(candidates) - 1)
        built = kernel.compile_kernel(layout, host, sch)
        assert np.array_equal(call(built, x, filters), expected), place


def test_values_that_are_cut_off_change_nothing(data_format, host, call):
    workload = Workload.from_id(
        f"n1_x1x1x6x1_k1x1x3_y1x1x4x9_s1x1x2_d1x1x1_p0x0x4_f32_{data_format}"
    )
    x, filters, _ = integer_data(workload, seed=0)
    x.reshape(6)[[0, 5]] = np.nan, np.inf  # outputs 0 to 2 and 10 to 12; those from 4 to 7 are kept
    default = default_schedule(workload, host)
    built = kernel.compile_kernel(default.layout(host), host, default.apply(host))
    expected = reference(workload, x, filters)
    assert np.isfinite(expected).all()
    assert np.array_equal(call(built, x, filters), expected)


def test_explicit_padding_and_its_name_share_a_schedule():
    named = Workload.make([1, 4, 4, 4, 8], [2, 2, 2, 8, 8], [1, 8, 8, 8, 8], 2, "VALID")
    assert dataclasses.replace(named, padding=(0, 0, 0)).id == named.id
