"""`device`."""

import json
import os

import numpy as np
import pytest
from click.testing import CliRunner

import tvm_conv3dt
from tvm_conv3dt import cpu, cuda_driver, cudart, device
from tvm_conv3dt.cli import app
from tvm_conv3dt.cuda_driver import CudaDriver, CudaGpu
from tvm_conv3dt.errors import LibraryError, PlatformError


def invoke(*arguments):
    return CliRunner().invoke(app.group, ["device", *arguments])


def test_json_says_what_a_bug_report_needs():
    facts = json.loads(invoke("--json").stdout)
    assert facts["package"] == tvm_conv3dt.__version__
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["cores"] == os.cpu_count()
    assert facts["device"]
    assert set(facts["cpu_features"]) == cpu.features()


def test_text_has_the_same_facts():
    facts = json.loads(invoke("--json").stdout)
    text = invoke().stdout
    for name in facts:
        assert name in text


def test_works_without_the_compiler(monkeypatch):
    from tvm_conv3dt.cli import device as verb

    monkeypatch.setattr(verb, "has_compiler", lambda: False)
    facts = json.loads(invoke("--json").stdout)
    assert facts["device"] == device.host().name


@pytest.mark.parametrize("name", ["x86-64-v3", "raspberry-pi-4", "cuda-sm90"])
def test_list_names_the_catalogue(name):
    assert name in invoke("--list").stdout
    assert name in [
        entry["name"] for entry in json.loads(invoke("--list", "--json").stdout)["devices"]
    ]


@pytest.mark.parametrize("peak", [None, 234.56])
def test_measure_adds_ceilings(monkeypatch, peak):
    from tvm_conv3dt.cli import machine_peer
    from tvm_conv3dt.measure import ceiling

    found = ceiling.Ceilings(gflops=123.46, copy_gbs=7.89, write_gbs=1.0, threads=1)
    monkeypatch.setattr(ceiling, "measure", lambda threads: found)
    monkeypatch.setattr(machine_peer, "peak_gflops", lambda threads: peak)
    facts = json.loads(invoke("--measure", "--json").stdout)
    assert (facts["sgemm_gflops"], facts["copy_gbs"]) == (123.5, 7.9)
    assert facts["fma_gflops"] == (peak and 234.6)


def told(monkeypatch, driver, runtime):
    """What is told of CUDA on a machine where these are found, or missed with these errors."""

    def answer(found):
        def ask():
            if isinstance(found, Exception):
                raise found
            return found

        return ask

    monkeypatch.setattr(cuda_driver, "find", answer(driver))
    monkeypatch.setattr(cudart, "load", answer(runtime))
    facts = json.loads(invoke("--json").stdout)
    return {name: facts[name] for name in ("gpus", "cuda_driver", "cudart", "cuda_missing")}


def test_gpus_are_told_with_driver_and_cuda_runtime(monkeypatch):
    gpus = (CudaGpu("Tester 9", (9, 0)), CudaGpu("Tester 8", (8, 7)))
    assert told(monkeypatch, CudaDriver((13, 1), gpus), "/opt/libcudart.so.13") == {
        "gpus": [
            {"name": "Tester 9", "arch": "sm_90"},
            {"name": "Tester 8", "arch": "sm_87"},
        ],
        "cuda_driver": "13.1",
        "cudart": "/opt/libcudart.so.13",
        "cuda_missing": [],
    }
    text = " ".join(invoke().stdout.split())
    assert "gpus name Tester 9, arch sm_90; name Tester 8, arch sm_87 cuda_driver 13.1" in text


def test_what_is_missing_for_gpus_is_told(monkeypatch):
    facts = told(monkeypatch, PlatformError("no driver"), LibraryError("no libcudart"))
    assert facts == {
        "gpus": [],
        "cuda_driver": None,
        "cudart": None,
        "cuda_missing": ["no driver", "no libcudart"],
    }
    assert "cuda_missing no driver; no libcudart" in " ".join(invoke().stdout.split())


def test_gpu_without_the_cuda_runtime_is_told(monkeypatch):
    driver = CudaDriver((13, 0), (CudaGpu("Tester", (9, 0)),))
    facts = told(monkeypatch, driver, LibraryError("no libcudart"))
    assert facts["gpus"] == [{"name": "Tester", "arch": "sm_90"}]
    assert facts["cuda_missing"] == ["no libcudart"]
