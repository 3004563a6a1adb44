"""A small bundle, made by the command line itself."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tvm_conv3dt import cpu
from tvm_conv3dt.cli import app
from tvm_conv3dt.gpu import KernelResources
from tvm_conv3dt.level import Kernel, Level, LibraryFile, ScheduleSummary
from tvm_conv3dt.manifest import CudaRuntime, Layer, Manifest, Platform
from tvm_conv3dt.spec import Workload

SMALL_SET = """
schema = 1

[[workload]]
name = "small/up"
input = [1, 3, 4, 5, 6]
filters = [2, 2, 2, 8, 6]
output_shape = [1, 6, 8, 10, 8]
strides = [2, 2, 2]
padding = "VALID"
data_format = "NDHWC"
dtype = "float32"

[[workload]]
name = "small/odd"
input = [1, 3, 3, 4, 5]
filters = [3, 3, 3, 7, 5]
output_shape = [1, 5, 6, 7, 7]
strides = [2, 2, 2]
padding = "SAME"
data_format = "NDHWC"
dtype = "float32"
bias = true
activation = "relu"
"""


@pytest.fixture
def invoke():
    """Runs the command line in this process."""
    return lambda *arguments: CliRunner().invoke(app.group, [str(word) for word in arguments])


@pytest.fixture(scope="session")
def small_set(tmp_path_factory) -> Path:
    """A workload file of two small layers."""
    path = tmp_path_factory.mktemp("sets") / "small.toml"
    path.write_text(SMALL_SET)
    return path


@pytest.fixture(scope="session")
def bundle(small_set, tmp_path_factory) -> Path:
    """Its bundle for this machine, untuned; to be read only."""
    return build(small_set, tmp_path_factory.mktemp("cli") / "bundle")


@pytest.fixture(scope="session")
def halves_bundle(small_set, tmp_path_factory) -> Path:
    """The same layers in bfloat16; to be read only."""
    pytest.importorskip("ml_dtypes")
    folder = tmp_path_factory.mktemp("cli") / "halves"
    return build(small_set, folder, "--dtype", "bfloat16")


@pytest.fixture(scope="session")
def levels() -> tuple[str, str]:
    """Two devices of this machine's architecture; it runs the second at least."""
    x86 = cpu.architecture() == "x86_64"
    return ("x86-64-v3", "x86-64-v2") if x86 else ("raspberry-pi-5", "aarch64")


@pytest.fixture(scope="session")
def levels_bundle(small_set, levels, tmp_path_factory) -> Path:
    """A bundle of these two levels, untuned; to be read only."""
    devices = [word for name in levels for word in ("--device", name)]
    return build(small_set, tmp_path_factory.mktemp("cli") / "levels", *devices)


def build(small_set, folder, *options):
    pytest.importorskip("tvm")
    arguments = ["build", *options, "--workloads", small_set, "-o", folder, "--allow-untuned"]
    result = CliRunner().invoke(app.group, [str(word) for word in arguments])
    assert result.exit_code == 0, result.output
    return folder


GPU_LAYER = "n1_x2x2x2x3_k2x2x2_y4x4x4x5_s2x2x2_d1x1x1_valid_f32_ndhwc"
RESOURCES = (
    KernelResources("run_kernel", 256, 128, 49152, 0, 0),
    KernelResources("pack_kernel", 64, 16, 0, 12, 16),
)


@pytest.fixture
def gpu_bundle(tmp_path):
    """The manifest of a bundle for GPUs, which is all that is looked at."""
    workload = Workload.from_id(GPU_LAYER)

    def kernel(arch):
        file = LibraryFile(f"{arch}.so", "ab" * 32, 1234)
        summary = ScheduleSummary("default", "gemm", None)
        return Kernel("up", file, (8,), "float16", 0, summary, RESOURCES)

    Manifest(
        package="0.1.0",
        tvm="0.27.0",
        tvm_ffi="0.1.14",
        definition=1,
        platform=Platform("cuda", "linux", cpu.architecture()),
        runtime=LibraryFile("libtvm_runtime.so", "cd" * 32, 5678),
        cuda=CudaRuntime(
            LibraryFile("libtvm_runtime_cuda.so", "ef" * 32, 9012), "libcudart.so.13", "13.0"
        ),
        layers=(Layer("up", workload, "run", "pack"),),
        levels=tuple(
            Level(f"cuda-{arch}", "generic", (), (kernel(arch),), gpu_arch=arch)
            for arch in ("sm_90", "sm_87")
        ),
    ).write(tmp_path)
    return tmp_path
