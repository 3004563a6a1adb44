"""Tuning for a GPU that is none: candidates are executed on the CPU, on memory under another device's name."""

from dataclasses import dataclass
from typing import Any

import pytest
import tvm
import tvm_ffi

pytest.importorskip("xgboost")

from tvm_conv3dt import cuda_driver
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import kernel, measuring, promote, schedule, schedule_file, tuning
from tvm_conv3dt.compiler.cuda_pipeline import CUDA
from tvm_conv3dt.compiler.packing import define_packing
from tvm_conv3dt.compiler.search import evolution, worker
from tvm_conv3dt.compiler.search.measurer import AnyMeasurer, Candidate, Failure, Request, Timed
from tvm_conv3dt.compiler.search.place import GpuPlace, HostPlace
from tvm_conv3dt.compiler.target import target_of
from tvm_conv3dt.cuda_driver import CudaDriver, CudaGpu
from tvm_conv3dt.errors import LibraryError
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

from .emulator import Emulated

NAME = "ext_dev"
H100 = catalogue.get("cuda-sm90")
DRIVER = CudaDriver((13, 0), (CudaGpu("NVIDIA H100", (9, 0)),))
TINY = Workload.make((1, 1, 2, 3, 16), (1, 2, 2, 16, 16), (1, 1, 4, 6, 16), (1, 2, 2), bias=True)
NEVER = float("inf")


@dataclass(frozen=True)
class Executed:
    """Stands for a compiled kernel: takes tensors of the device, and may report a failure."""

    emulated: Emulated
    workload: Workload
    packed_shape: tuple[int, ...]
    packed_dtype: str
    calls: list[str]
    failing: str | None
    workspace_bytes: int = 7

    def _call(self, name: str, tensors: Any) -> None:
        self.calls.append(name)
        assert {str(each.device) for each in tensors} == {f"{NAME}:0"}
        if name == self.failing:
            raise RuntimeError("CUDA: an illegal memory access\nwas encountered")
        arrays = [each.numpy() for each in tensors]
        self.emulated[name](*arrays)
        tensors[-1].copyfrom(arrays[-1])

    def run(self, *tensors: Any) -> None:
        self._call("run", tensors)

    def pack(self, *tensors: Any) -> None:
        self._call("pack", tensors)


class Gpu:
    """What was called, and what fails."""

    def __init__(self):
        self.calls = []
        self.failing = None

    def compile_kernel(self, layout, device, sch):
        run = next(iter(sch.mod.functions.values()))
        module = tvm.IRModule({"run": run, "pack": define_packing(layout, "pack")})
        emulated = Emulated.of(module, target_of(device), CUDA)
        shape, dtype = layout.packed_shape, layout.packed_dtype
        return Executed(emulated, layout.workload, shape, dtype, self.calls, self.failing)


class Here(AnyMeasurer):
    """Stands for the measuring process: measures in this one."""

    def __init__(self, threads, kind):
        assert kind == "cuda"
        self.threads = threads

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def measure(self, request, timeout):
        return worker.measure(request)


@pytest.fixture
def gpu(monkeypatch):
    if tvm_ffi.get_global_func(f"device_api.{NAME}", allow_missing=True) is None:
        tvm_ffi.register_global_func(
            f"device_api.{NAME}", tvm_ffi.get_global_func("device_api.cpu")
        )
    gpu = Gpu()
    monkeypatch.setattr(worker.kernel, "compile_kernel", gpu.compile_kernel)
    monkeypatch.setattr(worker, "_place", lambda kind: GpuPlace(NAME))
    monkeypatch.setattr(worker, "_BLOCK_SECONDS", 0.001)
    monkeypatch.setattr(cuda_driver, "find", lambda: DRIVER)
    worker._prepared.cache_clear()
    worker._data.cache_clear()
    yield gpu
    worker._prepared.cache_clear()
    worker._data.cache_clear()


def request(workload, trace=None, give_up_seconds=NEVER):
    default = schedule.default_schedule(workload, H100)
    candidate = Candidate(default.layout(H100), trace or default.trace)
    return Request(candidate, H100, 0.001, give_up_seconds)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_right_candidate_is_timed(dtype, gpu):
    outcome = worker.measure(request(TINY.recast(dtype=dtype)))
    assert isinstance(outcome, Timed), outcome
    assert len(outcome.seconds) >= 3
    assert min(outcome.seconds) > 0
    assert gpu.calls[:2] == ["pack", "run"]


def test_wrong_candidate_is_reported(gpu):
    workload = Workload.make((1, 1, 1, 1, 512), (1, 1, 1, 8, 512), (1, 1, 1, 1, 8), 1)
    default = schedule.default_schedule(workload, H100)
    sch = kernel.new_schedule(default.layout(H100))
    schedule.apply_trace(sch, default.trace, workload)
    sch.unsafe_set_dtype("accumulator_update", 0, "int8")
    outcome = worker.measure(request(workload, schedule.trace_json(sch.trace)))
    assert outcome.kind == "wrong", outcome


def test_first_call_which_loads_the_code_does_not_decide_on_the_speed(gpu, monkeypatch):
    seconds = iter([9.0, *[0.5] * 100])
    monkeypatch.setattr(worker._Ready, "seconds", lambda ready, calls=1: _run(ready, next(seconds)))
    outcome = worker.measure(request(TINY, give_up_seconds=0.1))
    assert outcome.seconds == (0.5,)


def _run(ready, seconds):
    ready.built.run(*ready.arguments)
    return seconds


@pytest.mark.parametrize("function", ["pack", "run"])
def test_failure_on_the_gpu_is_a_crash(function, gpu):
    gpu.failing = function
    outcome = worker.measure(request(TINY))
    assert outcome == Failure("crash", "CUDA: an illegal memory access was encountered")


def test_calls_of_a_millisecond_are_waited_for_together():
    place = GpuPlace.__new__(GpuPlace)
    assert [place.calls(each) for each in (0.0, 1e-5, 4e-4, 1e-3, 7.0)] == [10_000, 100, 3, 1, 1]
    assert HostPlace().calls(1e-5) == 1


def test_tvm_without_its_part_for_gpus_is_an_error():
    with pytest.raises(LibraryError, match="failed to use GPU with no_gpu: TVM did not load"):
        GpuPlace("no_gpu")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_tuning_ends_in_a_schedule(dtype, gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "Measurer", Here)
    monkeypatch.setattr(promote, "_ROUND_SECONDS", 0.001)
    monkeypatch.setattr(promote, "_ROUNDS", 2)
    monkeypatch.setattr(evolution, "_TIMING_SECONDS", 0.001)
    named = NamedWorkload("tiny", TINY.recast(dtype=dtype))
    (promoted,) = tuning.tune(
        [named], H100, trials=4, threads=1, logs=tmp_path / "logs", schedules=tmp_path
    )
    assert promoted.path.parent == tmp_path / "cuda-sm90"
    found = schedule_file.read(promoted.path, "cuda-sm90")
    assert found == promoted.schedule
    assert found.measurement.processor == "NVIDIA H100"
    assert found.origin["trials"] == 4
    assert found.verification == {"integers": "equal to the reference"}
