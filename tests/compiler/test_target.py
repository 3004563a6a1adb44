"""Does a device become the target that its libraries need?"""

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import cpu, cuda_driver, tile_state
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import target
from tvm_conv3dt.cuda_driver import CudaDriver, CudaGpu
from tvm_conv3dt.errors import DeviceError, PlatformError


@pytest.mark.parametrize(
    ("name", "triple", "mcpu"),
    [
        ("x86-64-v3", "x86_64-linux-gnu", "x86-64-v3"),
        ("raspberry-pi-4", "aarch64-linux-gnu", "cortex-a72"),
        ("armv7", "armv7-linux-gnueabihf", "cortex-a7"),
    ],
)
def test_target_has_the_devices_cpu_and_cores(name, triple, mcpu):
    device = catalogue.get(name)
    found = target.target_of(device)
    assert found.kind.name == "llvm"
    assert (found.attrs["mtriple"], found.attrs["mcpu"]) == (triple, mcpu)
    assert int(found.attrs["num-cores"]) == device.cores


@pytest.mark.parametrize(
    "name", [n for n in catalogue.names()[1:] if catalogue.get(n).kind == "llvm"]
)
def test_compiler_knows_the_cpu_and_the_features_that_are_looked_for(name):
    device = catalogue.get(name)
    found = target.target_of(device)
    known = {str(each) for each in target.codegen.llvm_get_cpu_features(found)}
    # The kernel's names of features, which the catalogue has, and LLVM's.
    llvms = {"asimd": "neon", "asimdhp": "fullfp16", "asimddp": "dotprod", "vfpv4": "vfp4"}
    llvms |= {"sse4_2": "sse4.2", "avx512_bf16": "avx512bf16", "avx512_fp16": "avx512fp16"}
    llvms |= {"amx_bf16": "amx-bf16", "amx_tile": "amx-tile"}
    assert {llvms.get(each, each) for each in device.cpu_features} <= known
    # An unknown name would be taken for a generic CPU, and told on standard error only.
    assert device.mcpu in {str(each) for each in target.codegen.llvm_get_cpu_archlist(found)}


def test_numbers_go_to_armv7s_c_library_where_it_takes_them_from():
    assert str(target.target_of(catalogue.get("armv7")).attrs["mfloat-abi"]) == "hard"


def test_gpu_of_a_board_is_called_by_the_boards_cpu():
    gpu = catalogue.get("jetson-orin-gpu")
    assert target.host_of(gpu) == catalogue.get("jetson-orin")
    assert str(target.target_of(gpu).host.attrs["mtriple"]) == "aarch64-linux-gnu"


def test_gpu_is_called_by_any_cpu_of_this_architecture():
    made = target.target_of(catalogue.get("cuda-sm80"))
    assert (made.kind.name, str(made.attrs["arch"])) == ("cuda", "sm_80")
    host = target.host_of(catalogue.get("cuda-sm80"))
    assert host.arch == cpu.architecture()
    assert str(made.host.attrs["mcpu"]) == host.mcpu


def test_nothing_is_measured_for_a_gpu_without_one(monkeypatch):
    def find():
        raise PlatformError("no driver")

    monkeypatch.setattr(cuda_driver, "find", find)
    with pytest.raises(PlatformError, match="no driver"):
        target.require_runnable(catalogue.get("cuda-sm80"))


@pytest.mark.parametrize("name", ["cuda-sm80", "cuda-sm90"])
def test_gpu_must_not_be_older_than_the_code(monkeypatch, name):
    a100 = CudaDriver((13, 0), (CudaGpu("A100", (8, 0)),))
    monkeypatch.setattr(cuda_driver, "find", lambda: a100)
    if name == "cuda-sm80":
        target.require_runnable(catalogue.get(name))
    else:
        with pytest.raises(DeviceError, match=r"sm_90.*A100.*sm_80"):
            target.require_runnable(catalogue.get(name))


def test_host_is_built_for_by_a_level_of_the_catalogue(host):
    assert host.mcpu in {catalogue.get(name).mcpu for name in catalogue.names()[1:]}


def test_host_runs_its_own_code(host):
    target.require_runnable(host)


def test_cpu_that_lacks_features_is_named_with_them(monkeypatch):
    monkeypatch.setattr(cpu, "features", lambda: frozenset({"popcnt", "sse4_2"}))
    monkeypatch.setattr(cpu, "architecture", lambda: "x86_64")
    with pytest.raises(DeviceError, match="x86-64-v2: its code needs ssse3, which"):
        target.require_runnable(catalogue.get("x86-64-v2"))


def test_nothing_is_measured_with_a_matrix_unit_that_the_kernel_refuses(monkeypatch):
    unit = catalogue.get("x86-64-v4-amx")
    monkeypatch.setattr(cpu, "features", lambda: frozenset(unit.cpu_features))
    monkeypatch.setattr(cpu, "architecture", lambda: "x86_64")
    monkeypatch.setattr(tile_state, "refusal", lambda: "the kernel refuses")
    with pytest.raises(PlatformError, match=r"failed to use matrix unit .*the kernel refuses"):
        target.require_runnable(unit)
    target.require_runnable(catalogue.get("x86-64-v4"))


def test_unknown_device_is_refused():
    with pytest.raises(DeviceError, match="the catalogue has host"):
        target.resolve("abacus")


def test_cpu_has_a_name(host):
    assert target.processor_name(host)


@pytest.mark.parametrize(
    ("features", "name"),
    [
        ({"avx2", "avx512f"}, "rocketlake"),
        ({"avx2", "avx512f", "avx512_fp16"}, None),
        ({"avx2", "avx512f", "amx_bf16"}, None),
    ],
)
def test_name_of_a_cpu_with_less_than_this_one_has_is_not_believed(features, name, monkeypatch):
    monkeypatch.setattr(target.codegen, "llvm_get_system_cpu", lambda: "rocketlake")
    monkeypatch.setattr(cpu, "features", lambda: frozenset(features))
    assert target._microarchitecture() == name


def test_host_that_is_misnamed_is_a_level(monkeypatch):
    monkeypatch.setattr(target, "_microarchitecture", lambda: None)
    assert target.resolve("host").name in catalogue.names()


def gpu(monkeypatch, *capability):
    found = CudaDriver((13, 0), (CudaGpu("NVIDIA GPU", capability), CudaGpu("another", (12, 0))))
    monkeypatch.setattr(target.cuda_driver, "find", lambda: found)


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ((7, 5), "cuda-sm75"),
        ((8, 7), "cuda-sm87"),
        ((8, 8), "cuda-sm87"),
        ((9, 0), "cuda-sm90"),
        ((10, 3), "cuda-sm100"),
        ((12, 1), "cuda-sm120"),
    ],
)
def test_cuda_is_the_first_gpu_or_the_nearest_one_below(capability, name, monkeypatch):
    gpu(monkeypatch, *capability)
    found = target.resolve("cuda")
    assert found == catalogue.get(name)
    assert target.processor_name(found) == "NVIDIA GPU"
    target.require_runnable(found)


def test_gpu_older_than_the_catalogue_is_refused(monkeypatch):
    gpu(monkeypatch, 7, 0)
    with pytest.raises(DeviceError, match="the first GPU, NVIDIA GPU, is sm_70, older than all"):
        target.resolve("cuda")


def test_code_for_a_later_gpu_is_refused(monkeypatch):
    gpu(monkeypatch, 8, 6)
    with pytest.raises(DeviceError, match="is sm_86; take the device cuda"):
        target.require_runnable(catalogue.get("cuda-sm90"))


def test_no_gpu_is_an_error_with_the_devices_name(monkeypatch):
    def refuse():
        raise PlatformError("failed to find GPU: there is no driver")

    monkeypatch.setattr(target.cuda_driver, "find", refuse)
    with pytest.raises(PlatformError, match=r"device with cuda: it is a GPU: .*no dr"):
        target.resolve("cuda")
    with pytest.raises(PlatformError, match="failed to measure for device with cuda-sm90: "):
        target.require_runnable(catalogue.get("cuda-sm90"))
