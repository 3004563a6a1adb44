"""Does a bundle that was built for aarch64 run there, through the runtime alone, and is every layer right?

The reference is computed on this machine, which takes an emulated one many times as long.
"""

import subprocess
from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device, workload_set
from tvm_conv3dt.compiler.bundle_writer import build_bundle
from tvm_conv3dt.measure.verify import verify
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

from .remote import Remote

pytestmark = pytest.mark.slow

# Depths that the largest layers are cut down to, where pytest is not called with --whole-layers. All else stays:
# channels, taps, phases, rows and their odd widths.
DEPTHS = {
    "nvtiny/d1": 4,
    "nnunet/up3": 4,
    "psm/conv5": 3,
    "memae/dec4": 4,
    "pcc/l2": 8,
    "nnunet/up5": 6,
    "gcnet/tf10535": 9,
}
RECAST = [("NDHWC", "float16"), ("NCDHW", "bfloat16"), ("NCDHW", "float32"), ("NDHWC", "float64")]
DEVICES = ("raspberry-pi-5", "aarch64")


def cut(workload: Workload, depth: int) -> Workload:
    """The workload with fewer positions of depth, and as many of the output missing at the end."""
    n, d, *rest = workload.input
    missing = d * workload.strides[0] - workload.output_shape[1]
    out = (n, depth * workload.strides[0] - missing, *workload.output_shape[2:])
    return replace(workload, input=(n, depth, *rest), output_shape=out)


@pytest.fixture(scope="module")
def layers(pytestconfig):
    whole = pytestconfig.getoption("--whole-layers")
    named = [
        NamedWorkload(each.name, cut(each.workload, DEPTHS[each.name]))
        if each.name in DEPTHS and not whole
        else each
        for each in workload_set.resolve_all(["ci"])
    ]
    odd = cut(next(each.workload for each in named if each.name == "nvtiny/d1"), 2)
    named += [NamedWorkload(f"{dtype} {form}", odd.recast(form, dtype)) for form, dtype in RECAST]
    return {each.name: each.workload for each in named}


@pytest.fixture(scope="module")
def bundle(layers, tmp_path_factory):
    """Their bundle for any CPU of aarch64, and for one that has half-precision arithmetic; of default points."""
    folder = tmp_path_factory.mktemp("aarch64") / "bundle"
    named = [NamedWorkload(name, workload) for name, workload in layers.items()]
    devices = [device.get(name) for name in DEVICES]
    build_bundle(named, devices, folder, schedules=[], allow_untuned=True, with_wrapper=True)
    return folder


@pytest.fixture(scope="module")
def remote(machine, bundle, tmp_path_factory):
    with Remote(machine, bundle, tmp_path_factory.mktemp("arrays")) as remote:
        yield remote


def pytest_generate_tests(metafunc):
    if "layer" in metafunc.fixturenames:
        names = [each.name for each in workload_set.resolve_all(["ci"])]
        metafunc.parametrize("layer", [*names, *(f"{dtype} {form}" for form, dtype in RECAST)])


def test_layer_is_right_on_aarch64(remote, layers, layer):
    found = verify(layers[layer], lambda *arrays: remote.run(layer, *arrays))
    assert found.passed, found


def test_most_demanding_level_that_runs_is_taken(remote):
    assert remote.facts["level"] == DEVICES[0]
    assert remote.facts["machine"] == "aarch64"


def test_level_for_any_cpu_is_verified_by_the_bundles_own_program(machine, bundle):
    words = ("verify", "--level", "aarch64", "--layer", "3dgan/l1", "--threads", "1")
    done = subprocess.run(
        [*machine.python, str(bundle / "conv3dt.pyz"), *words],
        env=machine.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert (done.returncode, done.stdout) == (0, "PASSED  3dgan/l1 on aarch64\n"), done.stderr
