"""Who is timed beside a bundle, by the kind of its code."""

from dataclasses import replace

import pytest

from tvm_conv3dt import tile_state
from tvm_conv3dt.cli import contestants
from tvm_conv3dt.errors import UnsupportedError
from tvm_conv3dt.measure import peers
from tvm_conv3dt.measure.ceiling import Ceilings
from tvm_conv3dt.measure.load import BFLOAT16, FMA
from tvm_conv3dt.spec import Workload

LAYER = Workload.make([1, 2, 2, 2, 4], [2, 2, 2, 2, 4], [1, 4, 4, 4, 2], 2)
HALF = LAYER.recast(dtype="float16")
MEMORY = Ceilings(None, 3000.0, 3000.0, 4)


class Gpu:
    name = "Tester"

    def nominal(self):
        return 10.0, 80.0


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    monkeypatch.setattr(contestants, "Gpu", Gpu)


def beside(kind, against=(), workloads=(LAYER,)):
    return contestants.beside(kind, against, workloads, stock_trials=7)


def test_bundle_for_cpus_has_those_that_were_asked_for():
    found = beside("llvm", ("onnxruntime", "pytorch"))
    assert found.peers == {name: peers.PEERS[name] for name in ("onnxruntime", "pytorch")}
    assert found.machine == contestants.MACHINE
    assert found.watched == (FMA,)


def test_matrix_unit_is_watched_where_the_bundle_uses_it():
    features = ["avx512f", "amx_bf16", tile_state.FEATURE]
    found = contestants.beside("llvm", (), [LAYER], stock_trials=7, features=features)
    assert found.watched == (FMA, BFLOAT16)


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"dtype": "bfloat16"}, 9.0),
        ({"precision": "bfloat16"}, 9.0),
        ({"dtype": "float16"}, None),
    ],
)
def test_peak_of_the_matrix_unit_is_for_products_of_bfloat16(changes, limit):
    found = beside("llvm", workloads=[LAYER, LAYER.recast(**changes)])
    ceilings = replace(MEMORY, bfloat16_gflops=9.0)
    assert found.complete(ceilings) == replace(ceilings, bfloat16_gflops=limit)


def test_pytorch_on_a_gpu_is_timed_with_and_without_tf32():
    found = beside("cuda", ("pytorch",))
    assert {name: peer.arguments for name, peer in found.peers.items()} == {
        "pytorch": ("exact",),
        "pytorch-tf32": ("tf32",),
    }
    assert {peer.module for peer in found.peers.values()} == {
        "tvm_conv3dt.measure.peers.pytorch_cuda"
    }


def test_tf32_is_for_float32_only():
    assert list(beside("cuda", ("pytorch",), [HALF]).peers) == ["pytorch"]
    assert "pytorch-tf32" in beside("cuda", ("pytorch",), [HALF, LAYER]).peers


@pytest.mark.parametrize("name", ["tensorflow", "onnxruntime", "openvino", "tvm"])
def test_other_frameworks_are_refused_on_gpus(name):
    with pytest.raises(UnsupportedError, match=f"failed to time peer with {name}: .*only pytorch"):
        beside("cuda", ("pytorch", name))


@pytest.mark.parametrize(
    ("workloads", "wanted"),
    [
        ([LAYER], ("fma",)),
        ([HALF], ("matrix",)),
        ([LAYER, HALF], ("fma", "matrix")),
        ([LAYER.recast(dtype="bfloat16")], ("fma",)),
    ],
)
def test_peaks_that_are_measured_are_those_of_the_layers_types(workloads, wanted):
    found = beside("cuda", workloads=workloads)
    assert found.machine.module == "tvm_conv3dt.cli.gpu_machine_peer"
    assert found.machine.arguments == wanted
    nominal = found.complete(MEMORY)
    assert (nominal.gpu, nominal.nominal) == ("Tester", True)
    assert nominal.fma_gflops == (10.0 if "fma" in wanted else None)
    assert nominal.matrix_gflops == (80.0 if "matrix" in wanted else None)


def test_measured_peak_of_a_gpu_stays():
    measured = replace(MEMORY, fma_gflops=9.0)
    found = beside("cuda").complete(measured)
    assert found == replace(measured, gpu="Tester")
