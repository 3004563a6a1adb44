"""Are kernels of pairs of bfloat16 right on an aarch64 machine that has the instruction?"""

from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device
from tvm_conv3dt.compiler.bundle_writer import build_bundle
from tvm_conv3dt.measure.verify import verify
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

from .remote import Remote

pytestmark = pytest.mark.slow

# Without SVE, which no kernel uses.
DEVICE = replace(
    device.get("neoverse-v1"), mcpu="neoverse-n1", mattr=("+bf16",), cpu_features=("asimd", "bf16")
)
LAYERS = {
    "pairs-phases": Workload.make(
        (1, 2, 3, 7, 5), (3, 3, 3, 18, 5), (1, 4, 6, 14, 18), 2, bias=True, dtype="bfloat16"
    ),
    "dot-pairs": Workload.make(
        (1, 3, 6, 16, 67), (3, 3, 3, 1, 67), (1, 6, 12, 32, 1), 2, bias=True, dtype="bfloat16"
    ),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs") / "bundle"
    named = [NamedWorkload(name, workload) for name, workload in LAYERS.items()]
    build_bundle(named, [DEVICE], folder, schedules=[], allow_untuned=True, with_wrapper=True)
    return folder


@pytest.fixture(scope="module")
def remote(machine, bundle, tmp_path_factory):
    with Remote(machine, bundle, tmp_path_factory.mktemp("arrays")) as remote:
        yield remote


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_is_right(remote, bundle, layer):
    assert f'"formulation": "{layer}"' in (bundle / "manifest.json").read_text()
    found = verify(LAYERS[layer], lambda *arrays: remote.run(layer, *arrays))
    assert found.passed, found
