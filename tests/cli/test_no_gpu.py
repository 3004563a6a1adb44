"""What verbs say of GPUs on a machine that has none: one line, and nothing is loaded or written."""

import ctypes

import pytest

from tvm_conv3dt import cuda_driver


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """A machine without NVIDIA's driver, on which nothing of CUDA may be loaded."""

    def refuse(name, *options):
        assert name == "libcuda.so.1", name
        raise OSError("cannot open shared object file")

    monkeypatch.setattr(cuda_driver, "ctypes", Ctypes(refuse))


class Ctypes:
    def __init__(self, load):
        self.CDLL = load

    def __getattr__(self, name):
        return getattr(ctypes, name)


def refused(result):
    assert result.exit_code == 3, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "there is no NVIDIA driver on this machine" in line
    return line


@pytest.mark.parametrize("verb", ["tune", "promote"])
@pytest.mark.parametrize("name", ["cuda-sm90", "cuda"])
def test_device_cannot_be_measured(verb, name, invoke, small_set, tmp_path):
    pytest.importorskip("xgboost")
    folders = ("--logs", tmp_path / "logs", "--schedules", tmp_path / "schedules")
    line = refused(invoke(verb, "--device", name, "--workloads", small_set, *folders))
    doing = "find device" if name == "cuda" else "measure for device"
    assert line.startswith(f"error: failed to {doing} with {name}: it is a GPU: ")
    assert list(tmp_path.iterdir()) == []


def test_there_is_no_device_to_build_for(invoke, small_set, tmp_path):
    pytest.importorskip("tvm")
    line = refused(
        invoke("build", "--device", "cuda", "--workloads", small_set, "-o", tmp_path / "bundle")
    )
    assert line.endswith("build needs none, for a device such as cuda-sm90")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["verify", "bench"])
def test_bundle_cannot_be_run(verb, invoke, gpu_bundle):
    files = set(gpu_bundle.iterdir())
    line = refused(invoke(verb, gpu_bundle))
    assert line.startswith("error: failed to find GPU with libcuda.so.1: ")
    assert set(gpu_bundle.iterdir()) == files
