"""PyTorch's peer on GPUs, whose arrays are on the CPU here: what it sets, checks and refuses."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tvm_conv3dt.errors import PlatformError, UnsupportedError
from tvm_conv3dt.measure.peers import GPU_PEERS, LESS_EXACT, pytorch_cuda, worker
from tvm_conv3dt.measure.peers.messages import Prepare, Prepared
from tvm_conv3dt.measure.peers.problem import Problem
from tvm_conv3dt.reference import reference
from tvm_conv3dt.spec import Workload

WORKLOAD = Workload.make([1, 3, 3, 4, 5], [3, 3, 3, 7, 5], [1, 6, 6, 8, 7], 2, bias=True)


@pytest.fixture
def gpu(monkeypatch):
    """The CPU in a GPU's place; settings are put back."""
    waits = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append(1))
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91000)
    monkeypatch.setattr(pytorch_cuda, "_DEVICE", "cpu")
    for name in ("allow_tf32", "benchmark"):
        monkeypatch.setattr(torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
    return waits


@pytest.mark.parametrize("mode", [pytorch_cuda.EXACT, pytorch_cuda.TF32])
def test_mode_is_set(mode, gpu):
    started = pytorch_cuda.start(1, mode)
    assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.allow_tf32 == (mode == pytorch_cuda.TF32)
    assert started.version == f"{torch.__version__}, cuDNN 91000"


def test_modes_are_those_that_bench_names():
    modes = {name: peer.arguments for name, peer in GPU_PEERS["pytorch"].items()}
    assert modes == {
        "pytorch": (pytorch_cuda.EXACT,),
        "pytorch-tf32": (pytorch_cuda.TF32,),
    }
    assert set(GPU_PEERS["pytorch"]) - LESS_EXACT == {"pytorch"}


def answer(workload, mode, folder, factor=1.0):
    problem = Problem.of(workload)
    expected = reference(workload, problem.x, problem.filters, problem.bias) * factor
    np.save(folder / "expected.npy", expected.astype(workload.numpy_dtype))
    variants = pytorch_cuda.start(1, mode).prepare(problem)
    request = Prepare(workload, str(folder / "expected.npy"), writes=False)
    return variants, worker._checked(variants, request)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_both_formats_are_right_and_waited_for(dtype, gpu, tmp_path):
    workload = WORKLOAD.recast(dtype=dtype)
    variants, found = answer(workload, pytorch_cuda.EXACT, tmp_path)
    assert isinstance(found, Prepared), found
    assert found.variants == {0: ("contiguous", "fresh"), 1: ("channels_last_3d", "fresh")}
    assert all(each.tolerance is None for each in variants)
    variants[0].wait()
    assert gpu == [1]


@pytest.mark.parametrize(("factor", "right"), [(1.008, True), (1.05, False)])
def test_tf32_is_checked_by_its_own_bound(factor, right, gpu, tmp_path):
    _, found = answer(WORKLOAD, pytorch_cuda.TF32, tmp_path, factor)
    assert isinstance(found, Prepared) == right


def test_tf32_of_float16_is_refused(gpu):
    started = pytorch_cuda.start(1, pytorch_cuda.TF32)
    with pytest.raises(UnsupportedError, match="TF32 is a mode of float32"):
        started.prepare(Problem.of(WORKLOAD.recast(dtype="float16")))


@pytest.mark.parametrize(
    ("built", "rule"), [(None, "built without CUDA"), ("13.0", "it finds no GPU")]
)
def test_pytorch_that_uses_no_gpu_is_an_error(built, rule, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    with pytest.raises(PlatformError, match=f"failed to use PyTorch with .*{rule}"):
        pytorch_cuda.start(1, pytorch_cuda.EXACT)
