"""Does the space for GPUs hold what fits them, and is its default point one that does?"""

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as devices
from tvm_conv3dt import workload_set
from tvm_conv3dt.compiler.spaces import cuda, gpu_default_point
from tvm_conv3dt.compiler.spaces.space import space_of
from tvm_conv3dt.spec import Workload

GPUS = ["cuda-sm75", "cuda-sm87", "cuda-sm90", "cuda-sm120"]
SUITE = [each.workload for each in workload_set.resolve_all(("suite",))]
H100 = devices.get("cuda-sm90")


def few_channels(dtype: str, kernel: int) -> Workload:
    return Workload.make(
        [1, 8, 8, 8, 16], [kernel, kernel, kernel, 1, 16], [1, 16, 16, 16, 1], 2, dtype=dtype
    )


@pytest.mark.parametrize("name", GPUS)
def test_default_points_of_real_layers_keep_the_limits(name):
    device = devices.get(name)
    for workload in [each.recast(dtype=t) for each in SUITE[::6] for t in ("float32", "float16")]:
        point = space_of(device).default_points(workload, device)[0]
        layout = cuda.layout_of(workload, device, point.formulation)
        threads = cuda.nest_of(layout).threads_of(layout, point.family)
        assert threads <= device.gpu.threads_per_block
        assert cuda.shared_bytes(layout) <= device.gpu.shared_bytes_per_block
        taken = gpu_default_point.registers(layout, point)
        assert taken <= device.gpu.registers_per_thread
        assert taken * threads <= device.gpu.registers_per_multiprocessor
        assert layout.blocks_of_threads < 2**31


def test_default_points_are_ordered_by_their_estimates():
    points = space_of(H100).default_points(SUITE[0], H100)
    estimates = [gpu_default_point.estimate(SUITE[0], H100, point) for point in points]
    assert estimates == sorted(estimates)
    assert len({point.formulation for point in points}) == len(points)


def test_float16_uses_tensor_cores_where_channels_fill_them():
    wide = Workload.make([1, 4, 4, 4, 32], [2, 2, 2, 32, 32], [1, 8, 8, 8, 32], 2, dtype="float16")
    kinds = {name[:4] for name in cuda.formulations(wide, H100)}
    assert kinds == {"wmma"}
    assert {name[:4] for name in cuda.formulations(few_channels("float16", 3), H100)} == {
        "gemm",
        "wmma",
    }


def test_phases_with_different_taps_are_not_folded_for_tensor_cores():
    # They would multiply infinite inputs by filters that are zero.
    names = cuda.formulations(few_channels("float16", 3), H100)
    assert not [name for name in names if name.startswith("wmma") and "fold" in name]
    assert [name for name in names if name.startswith("gemm") and "fold-dhw" in name]


def test_no_part_is_without_input_channels():
    for name in cuda.formulations(SUITE[0], H100):
        layout = cuda.layout_of(SUITE[0], H100, name)
        assert (layout.parts - 1) * layout.part_channels < SUITE[0].in_channels


def test_cpus_have_a_space_of_their_own():
    assert space_of(devices.get("x86-64-v3")) is not space_of(H100)
