"""The package's public names."""

import subprocess
import sys

import pytest

import tvm_conv3dt


def test_public_names_are_listed():
    public = {"Workload", "conv3d_transpose", "errors", "load", "set_num_threads"}
    assert public <= set(dir(tvm_conv3dt))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'transpose'"):
        _ = tvm_conv3dt.transpose


def test_errors_can_be_reached_without_importing_them():
    program = "import tvm_conv3dt; print(tvm_conv3dt.errors.Conv3dtError.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "Conv3dtError"
