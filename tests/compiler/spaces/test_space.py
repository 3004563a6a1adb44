"""Has each kind of device a space, whose parts agree with each other?"""

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as devices
from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.spaces.point import point_of
from tvm_conv3dt.compiler.spaces.space import space_of
from tvm_conv3dt.spec import Workload

UP = Workload.make((1, 3, 4, 5, 20), (3, 3, 3, 40, 20), (1, 6, 8, 10, 40), 2)
DEVICES = ["x86-64-v3", "cuda-sm87"]


@pytest.mark.parametrize("name", devices.names()[1:])
def test_every_device_of_the_catalogue_has_the_space_of_its_kind(name):
    device = devices.get(name)
    example = "cuda-sm75" if device.kind == "cuda" else "x86-64-v2"
    assert space_of(device) is space_of(devices.get(example))


@pytest.mark.parametrize("name", DEVICES)
def test_default_points_are_of_families_of_their_layouts(name):
    device = devices.get(name)
    space = space_of(device)
    for point in space.default_points(UP, device):
        layout = space.layout_of(UP, device, point.formulation)
        assert point.family in set(space.families(layout, device))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", DEVICES)
def test_trace_tells_the_point_that_it_was_made_of(name, dtype):
    device, workload = devices.get(name), UP.recast(dtype=dtype)
    space = space_of(device)
    for point in space.default_points(workload, device)[:3]:
        layout = space.layout_of(workload, device, point.formulation)
        sch = kernel.new_schedule(layout)
        space.apply(sch, layout, device, point.family, point.choose)
        assert point_of(sch.trace) == point


def test_gpus_have_no_formulation_of_cpus():
    device = devices.get("cuda-sm87")
    with pytest.raises(ValueError, match="formulation dot is none of GPUs"):
        space_of(device).layout_of(UP, device, "dot")
