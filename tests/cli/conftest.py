"""A small bundle, made by the command line itself."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tvm_conv3dt import device
from tvm_conv3dt.cli import app

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
def levels() -> tuple[str, str]:
    """Two devices of this machine's architecture; it runs the second at least."""
    x86 = device.architecture() == "x86_64"
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
