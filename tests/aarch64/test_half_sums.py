"""Are kernels that add in float16 right on an aarch64 machine that has arithmetic of it?"""

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device
from tvm_conv3dt.compiler.bundle_writer import build_bundle
from tvm_conv3dt.measure.verify import verify
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

from .remote import Remote

pytestmark = pytest.mark.slow

# Two taps of the width are a block of sums, zeros around rows and a vector that overlaps are there.
LAYER = Workload.make(
    (1, 2, 3, 7, 40),
    (3, 3, 3, 19, 40),
    (1, 4, 6, 14, 19),
    2,
    bias=True,
    dtype="float16",
    precision="float16",
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("halves") / "bundle"
    build_bundle(
        [NamedWorkload("layer", LAYER)],
        [device.get("raspberry-pi-5")],
        folder,
        schedules=[],
        allow_untuned=True,
        with_wrapper=True,
    )
    return folder


def test_layer_is_right(machine, bundle, tmp_path):
    assert '"formulation": "halves-phases"' in (bundle / "manifest.json").read_text()
    with Remote(machine, bundle, tmp_path) as remote:
        found = verify(LAYER, lambda *arrays: remote.run("layer", *arrays))
    assert found.passed, found
