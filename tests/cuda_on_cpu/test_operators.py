"""Does every kernel for GPUs that is built, executed on the CPU, equal the reference?"""

from __future__ import annotations

import itertools
import random

import pytest
from compiler.geometries import COMMON, make

from tvm_conv3dt import device as devices
from tvm_conv3dt import workload_set
from tvm_conv3dt.compiler import schedule, schedule_file
from tvm_conv3dt.compiler.spaces import cuda
from tvm_conv3dt.paths import schedule_folders
from tvm_conv3dt.spec import ACTIVATIONS, Workload

from .emulator import ORDERS
from .operators import wrong_results

ORIN, H100 = devices.get("cuda-sm87"), devices.get("cuda-sm90")
CI_LAYERS = [(each.name, each.workload) for each in workload_set.resolve_all(("ci",))]


def schedule_of(workload: Workload, device: devices.Device) -> schedule.Schedule:
    """What `build --allow-untuned` takes."""
    found = schedule_file.find(workload, device, schedule_folders())
    return found or schedule.default_schedule(workload, device)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("name", "workload"), CI_LAYERS, ids=[name for name, _ in CI_LAYERS])
def test_layer_of_the_ci_set_is_exact(name, workload, dtype):
    workload = workload.recast(dtype=dtype)
    by_formulation = {}
    for device, order in zip((H100, ORIN), ORDERS, strict=True):
        its = schedule_of(workload, device)
        by_formulation.setdefault(str(its.trace), (its, device, order))
    for its, device, order in by_formulation.values():
        assert wrong_results(its, device, order) == 0, its.formulation


def sample(geometry: str, seed: int) -> list[tuple[Workload, str]]:
    """Workloads of a geometry in all dtypes, formats and epilogues, some of each, and points of theirs."""
    draw = random.Random(f"{geometry} {seed}")
    activations = [None, *ACTIVATIONS]
    result = []
    for dtype, data_format in itertools.product(
        ("float32", "float16", "bfloat16", "float64"), ("NDHWC", "NCDHW")
    ):
        channels = draw.choice([1, 3, 8, 17, 20, 64]), draw.choice([1, 2, 5, 16, 24, 40])
        plain = make(COMMON[geometry], draw.choice([1, 2]), *channels)
        workload = Workload.make(
            **{
                **plain.to_dict(),
                "bias": draw.choice([False, True]),
                "activation": draw.choice(activations),
            }
        ).recast(data_format, dtype)
        points = list(cuda.points(workload, ORIN))
        result.append((workload, draw.choice(points)))
    return result


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("geometry", COMMON)
def test_any_point_of_a_special_geometry_is_exact(geometry, order):
    for workload, point in sample(geometry, seed=ORDERS.index(order)):
        its = schedule.point_schedule(workload, ORIN, point)
        assert wrong_results(its, ORIN, order) == 0, f"{workload.id} by {point}"


def test_output_that_no_input_reaches_has_the_bias_alone():
    workload = Workload.make(
        *([1, 1, 1, 1, 4], [1, 1, 2, 3, 4], [1, 1, 1, 1, 3]),
        *(1, (0, 0, 2)),
        dilations=[1, 1, 4],
        bias=True,
    )
    assert not workload.reached
    assert wrong_results(schedule.default_schedule(workload, H100), H100) == 0
