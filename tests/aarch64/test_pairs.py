"""Are kernels of pairs and of blocks of bfloat16 right on an aarch64 machine that has the instructions?"""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")
pytest.importorskip("ml_dtypes")

from tvm_conv3dt import device
from tvm_conv3dt.compiler import schedule, schedule_file
from tvm_conv3dt.compiler.bundle_writer import build_bundle
from tvm_conv3dt.compiler.spaces.default_point import default_points
from tvm_conv3dt.measure.verify import verify
from tvm_conv3dt.reference import random_data, reference
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

from .remote import Remote

pytestmark = pytest.mark.slow

# Without SVE, which no kernel uses.
DEVICE = replace(
    device.get("neoverse-v1"), mcpu="neoverse-n1", mattr=("+bf16",), cpu_features=("asimd", "bf16")
)


def make(size, channels, kernel=3, stride=2, **more):
    """The same kernel on every axis, and an output of as many strides as there are inputs."""
    in_channels, out_channels = channels
    output = [each * stride for each in size]
    return Workload.make(
        (1, *size, in_channels),
        (*[kernel] * 3, out_channels, in_channels),
        (1, *output, out_channels),
        stride,
        dtype=more.pop("dtype", "bfloat16"),
        **more,
    )


# Name -> formulation and workload.
LAYERS = {
    "pairs": ("pairs-phases", make((2, 3, 7), (5, 18), bias=True)),
    "dots": ("dot-pairs", make((3, 6, 16), (67, 1), bias=True)),
    "blocks": ("mmla-phases", make((2, 3, 7), (7, 18), bias=True)),
    "blocks of many channels": ("mmla-phases", make((3, 5, 12), (96, 40), kernel=2)),
    "blocks of one channel": ("mmla-phases", make((2, 3, 5), (1, 1))),
    "blocks without stride": ("mmla-phases", make((3, 4, 9), (8, 6), stride=1)),
    "blocks of folded phases": ("mmla-fold-dhw", make((2, 3, 6), (6, 3), kernel=2)),
    "blocks of float32": (
        "mmla-phases",
        make((2, 4, 9), (34, 12), bias=True, dtype="float32", precision="bfloat16"),
    ),
    "blocks with an activation": ("mmla-phases", make((2, 3, 8), (9, 8), activation="tanh")),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for formulation, workload in LAYERS.values():
        points = default_points(workload, DEVICE)
        point = next(each for each in points if each.formulation == formulation)
        schedule_file.write(schedule.point_schedule(workload, DEVICE, point), folder)
    named = [NamedWorkload(name, workload) for name, (_, workload) in LAYERS.items()]
    build_bundle(named, [DEVICE], folder / "bundle", schedules=[folder], with_wrapper=True)
    return folder / "bundle"


@pytest.fixture(scope="module")
def remote(machine, bundle, tmp_path_factory):
    with Remote(machine, bundle, tmp_path_factory.mktemp("arrays")) as remote:
        yield remote


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_is_right(remote, layer):
    _, workload = LAYERS[layer]
    found = verify(workload, lambda *arrays: remote.run(layer, *arrays))
    assert found.passed, found


@pytest.mark.parametrize("layer", ["blocks", "blocks of many channels", "blocks of folded phases"])
def test_infinity_stays_where_it_belongs(remote, layer):
    _, workload = LAYERS[layer]
    x, filters, bias = random_data(workload, seed=0)
    x[0, 1, 1, x.shape[3] // 2, -1] = np.inf
    out = np.full(workload.output_shape, np.nan, workload.numpy_dtype)
    remote.run(layer, x, filters, bias, out)
    expected = reference(workload, x, filters, bias)
    assert np.isinf(expected).any()
    assert np.array_equal(np.isinf(out.astype(np.float32)), np.isinf(expected))
    assert not np.isnan(out.astype(np.float32)).any()


def test_products_of_blocks_are_expected_to_be_the_fastest():
    for layer in ("pairs", "blocks", "blocks of many channels"):
        assert default_points(LAYERS[layer][1], DEVICE)[0].formulation == "mmla-phases"
