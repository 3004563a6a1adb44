"""Has each kind of device a space, whose parts agree with each other?"""

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as devices
from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.spaces.point import point_of
from tvm_conv3dt.compiler.spaces.space import space_of
from tvm_conv3dt.spec import Workload

UP = Workload.make((1, 3, 4, 5, 20), (3, 3, 3, 40, 20), (1, 6, 8, 10, 40), 2)
FEW = Workload.make((1, 3, 8, 5, 40), (3, 3, 3, 2, 40), (1, 6, 16, 10, 2), 2)
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


@pytest.mark.parametrize("workload", [UP, FEW], ids=["up", "few"])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("x86-64-v3", "float32"),
        ("x86-64-v3", "float16"),
        ("x86-64-v4-amx", "float32"),
        ("x86-64-v4-amx", "bfloat16"),
        ("neoverse-n2", "bfloat16"),
        ("cuda-sm87", "float32"),
        ("cuda-sm87", "float16"),
    ],
)
def test_trace_tells_the_point_that_it_was_made_of(name, dtype, workload):
    """Also as a search keeps it: without decisions that change nothing."""
    device, workload = devices.get(name), workload.recast(dtype=dtype)
    space = space_of(device)
    for point in space.default_points(workload, device):
        layout = space.layout_of(workload, device, point.formulation)
        chosen = {}

        def last(name, candidates, chosen=chosen):
            chosen[name] = candidates[-1]
            return len(candidates) - 1

        sch = kernel.new_schedule(layout)
        space.apply(sch, layout, device, point.family, last)
        made = space.point(point.formulation, point.order, **chosen)
        assert point_of(sch.trace) == made
        assert point_of(sch.trace.simplified(remove_postproc=True)) == made


def test_gpus_have_no_formulation_of_cpus():
    device = devices.get("cuda-sm87")
    with pytest.raises(ValueError, match="formulation dot is none of GPUs"):
        space_of(device).layout_of(UP, device, "dot")
