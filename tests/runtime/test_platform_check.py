"""Which level of a bundle a machine is to run: the most demanding that it can, the one named, or none."""

import platform
from dataclasses import replace

import pytest

from tvm_conv3dt import cpu, cuda_driver, device, tile_state
from tvm_conv3dt.cuda_driver import CudaDriver, CudaGpu
from tvm_conv3dt.errors import DeviceError, PlatformError
from tvm_conv3dt.level import Level, LibraryFile
from tvm_conv3dt.manifest import CudaRuntime, Manifest, Platform
from tvm_conv3dt.runtime.platform_check import check_machine, choose_level, fitting_level, missing

NAMES = ("x86-64-v4", "x86-64-v3", "x86-64-v2")
NEEDS = {name: frozenset(device.get(name).cpu_features) for name in NAMES}
MANIFEST = Manifest(
    package="0.1.0",
    tvm="0.27.0",
    tvm_ffi="0.1.14",
    definition=1,
    platform=Platform("llvm", "linux", "x86_64"),
    runtime=LibraryFile("libtvm_runtime.so", "cd" * 32, 5678),
    cuda=None,
    layers=(),
    levels=tuple(Level(name, name, device.get(name).cpu_features, ()) for name in NAMES),
)
NEWEST = frozenset().union(*NEEDS.values())
WITHOUT_AVX512 = NEEDS["x86-64-v3"] | NEEDS["x86-64-v2"]


@pytest.fixture
def machine(monkeypatch):
    """A function that makes this an x86-64 machine whose CPU has the given features."""

    def has(features):
        monkeypatch.setattr(platform, "system", lambda: "Linux")
        monkeypatch.setattr(cpu, "architecture", lambda: "x86_64")
        monkeypatch.setattr(cpu, "features", lambda: frozenset(features))

    return has


@pytest.mark.parametrize(
    ("features", "level"),
    [
        (NEWEST, "x86-64-v4"),
        (NEWEST | {"amx_bf16"}, "x86-64-v4"),
        (NEWEST - {"avx512vl"}, "x86-64-v3"),
        (WITHOUT_AVX512, "x86-64-v3"),
        (WITHOUT_AVX512 - {"fma"}, "x86-64-v2"),
        (NEEDS["x86-64-v2"], "x86-64-v2"),
    ],
)
def test_most_demanding_level_that_fits_is_taken(machine, features, level):
    machine(features)
    assert choose_level(MANIFEST).device == level
    assert fitting_level(MANIFEST) is choose_level(MANIFEST)


@pytest.mark.parametrize("name", NAMES)
def test_level_that_is_named_is_taken(machine, name):
    machine(NEWEST)
    assert choose_level(MANIFEST, name).device == name


def test_machine_that_fits_no_level_is_told_what_it_lacks_for_each(machine):
    machine({"avx2", "popcnt", "sse4_2", *NEEDS["x86-64-v4"]} - {"avx512f", "fma"})
    with pytest.raises(PlatformError) as caught:
        choose_level(MANIFEST)
    assert str(caught.value) == (
        "failed to load bundle with levels 'x86-64-v4', 'x86-64-v3', 'x86-64-v2': "
        "its code for x86-64-v4 uses avx512f, fma, and its code for x86-64-v3 uses fma, and its code for "
        "x86-64-v2 uses ssse3, which this CPU does not have; "
        "build it for this machine with: tvm-conv3dt build --device NAME (see tvm-conv3dt device)"
    )
    assert fitting_level(MANIFEST) is None


def test_level_that_is_named_and_does_not_fit_is_refused(machine):
    machine(WITHOUT_AVX512)
    with pytest.raises(PlatformError) as caught:
        choose_level(MANIFEST, "x86-64-v4")
    assert str(caught.value) == (
        "failed to load bundle with level 'x86-64-v4': its code for x86-64-v4 uses avx512bw, avx512cd, "
        "avx512dq, avx512f, avx512vl, which this CPU does not have; "
        "name no level, and one that fits is taken"
    )


def test_level_that_is_named_where_none_fits_is_refused(machine):
    machine(())
    with pytest.raises(PlatformError, match=r"uses popcnt, sse4_2, ssse3, which.*; build it for"):
        choose_level(MANIFEST, "x86-64-v2")


@pytest.mark.parametrize("name", ["x86-64-v5", "", "X86-64-V3", 3])
def test_level_that_the_bundle_does_not_have_is_refused(machine, name):
    machine(NEWEST)
    with pytest.raises(DeviceError, match=r"with level .*: it has x86-64-v4, x86-64-v3, x86-64-v2"):
        choose_level(MANIFEST, name)


def test_bundle_of_another_architecture_is_refused_whatever_its_cpu_has(machine, monkeypatch):
    machine(NEWEST)
    monkeypatch.setattr(cpu, "architecture", lambda: "riscv64")
    with pytest.raises(PlatformError, match=r"levels 'x86-64-v4'.* for linux on x86_64, and this"):
        check_machine(MANIFEST)
    assert fitting_level(MANIFEST) is None


GPUS = ("sm_120", "sm_90", "sm_87")
CUDA = replace(
    MANIFEST,
    platform=Platform("cuda", "linux", "x86_64"),
    cuda=CudaRuntime(
        LibraryFile("libtvm_runtime_cuda.so", "ef" * 32, 9012), "libcudart.so.13", "13.1"
    ),
    levels=tuple(Level(f"cuda-{arch}", "", ("avx2",), (), gpu_arch=arch) for arch in GPUS),
)


@pytest.fixture
def gpu(machine, monkeypatch):
    """A function that makes this an x86-64 machine with a GPU of the given compute capability."""

    def has(*capability, cuda=(13, 1), others=()):
        machine(NEEDS["x86-64-v3"])
        gpus = (CudaGpu("Tester", capability), *(CudaGpu("Other", each) for each in others))
        monkeypatch.setattr(cuda_driver, "find", lambda: CudaDriver(cuda, gpus))

    return has


@pytest.mark.parametrize(
    ("capability", "level"),
    [
        ((12, 0), "cuda-sm_120"),
        ((12, 1), "cuda-sm_120"),
        ((10, 0), "cuda-sm_90"),
        ((9, 0), "cuda-sm_90"),
        ((8, 9), "cuda-sm_87"),
        ((8, 7), "cuda-sm_87"),
    ],
)
def test_most_demanding_level_that_a_gpu_fits_is_taken(gpu, capability, level):
    gpu(*capability)
    assert choose_level(CUDA).device == level
    assert fitting_level(CUDA) is choose_level(CUDA)


def test_level_for_an_earlier_gpu_is_taken_where_it_is_named(gpu):
    gpu(12, 0)
    assert choose_level(CUDA, "cuda-sm_87").device == "cuda-sm_87"


def test_first_gpu_decides(gpu):
    gpu(8, 7, others=[(9, 0)])
    assert choose_level(CUDA).device == "cuda-sm_87"


def test_gpu_that_fits_no_level_is_named_with_what_it_has(gpu):
    gpu(7, 5)
    with pytest.raises(PlatformError) as caught:
        choose_level(CUDA)
    assert str(caught.value) == (
        "failed to load bundle with levels 'cuda-sm_120', 'cuda-sm_90', 'cuda-sm_87': "
        "its code for cuda-sm_120 uses compute capability 12.0, and its code for cuda-sm_90 uses compute "
        "capability 9.0, and its code for cuda-sm_87 uses compute capability 8.7, which this machine "
        "(Tester, compute capability 7.5, driver of CUDA 13.1) does not have; "
        "build it for this machine with: tvm-conv3dt build --device NAME (see tvm-conv3dt device)"
    )
    assert fitting_level(CUDA) is None


def test_level_that_is_named_and_that_the_gpu_does_not_fit_is_refused(gpu):
    gpu(8, 7)
    with pytest.raises(
        PlatformError, match=r"uses compute capability 9\.0, which.*; name no level"
    ):
        choose_level(CUDA, "cuda-sm_90")


def test_cpu_beside_a_gpu_must_have_its_features_too(gpu, machine):
    gpu(9, 0)
    machine(NEEDS["x86-64-v2"])
    with pytest.raises(PlatformError, match=r"its code for cuda-sm_87 uses avx2, which"):
        choose_level(CUDA)


@pytest.mark.parametrize("cuda", [(12, 8), (12, 9), (11, 4)])
def test_driver_of_an_earlier_cuda_is_refused(gpu, cuda):
    gpu(9, 0, cuda=cuda)
    with pytest.raises(PlatformError) as caught:
        choose_level(CUDA)
    assert str(caught.value) == (
        f"failed to load bundle with libcudart.so.13: NVIDIA's driver on this machine runs CUDA up to {cuda[0]}."
        f"{cuda[1]}, and it must be 13.0 or later; install a newer driver"
    )
    assert fitting_level(CUDA) is None


@pytest.mark.parametrize(
    ("capability", "level"),
    [((9, 0), "cuda-sm_90"), ((8, 9), "cuda-sm_87"), ((12, 1), "cuda-sm_120")],
)
def test_machine_code_needs_no_newer_driver_of_the_same_cuda(gpu, capability, level):
    gpu(*capability, cuda=(13, 0))
    assert choose_level(CUDA).device == level


def test_code_that_the_driver_must_compile_needs_one_of_its_toolkit(gpu):
    gpu(10, 0, cuda=(13, 0))
    with pytest.raises(PlatformError, match=r"cuda-sm_90 uses a driver of CUDA 13\.1, and"):
        choose_level(CUDA)


def test_what_each_level_lacks_is_told(gpu):
    gpu(8, 9)
    assert missing(CUDA) == (("compute capability 12.0",), ("compute capability 9.0",), ())


def test_what_each_level_lacks_is_told_of_cpus_too(machine):
    machine(WITHOUT_AVX512 - {"fma"})
    assert missing(MANIFEST)[1:] == (("fma",), ())


def test_machine_without_a_gpu_is_refused_with_the_reason(machine, monkeypatch):
    def find():
        raise PlatformError("no driver")

    machine(NEWEST)
    monkeypatch.setattr(cuda_driver, "find", find)
    check_machine(CUDA)
    for ask in (choose_level, missing):
        with pytest.raises(PlatformError, match="no driver"):
            ask(CUDA)
    assert fitting_level(CUDA) is None


def test_no_gpu_is_looked_for_where_a_bundle_is_for_cpus(machine, monkeypatch):
    machine(NEWEST)
    monkeypatch.delattr(cuda_driver, "find")
    assert choose_level(MANIFEST).device == "x86-64-v4"


# ---- the matrix unit

UNIT = "x86-64-v4-amx"
WITH_UNIT = replace(
    MANIFEST,
    levels=(Level(UNIT, UNIT, device.get(UNIT).cpu_features, ()), *MANIFEST.levels),
)
ALL = NEWEST | set(device.get(UNIT).cpu_features)


@pytest.fixture
def asked(monkeypatch):
    """The kernel's answer, and a list of how often it was asked."""
    calls = []

    def answers(reason):
        monkeypatch.setattr(tile_state, "refusal", lambda: calls.append(1) or reason)
        return calls

    return answers


def test_level_with_a_matrix_unit_is_taken_where_the_kernel_grants_it(machine, asked):
    machine(ALL)
    calls = asked("")
    assert choose_level(WITH_UNIT).device == UNIT
    assert calls


def test_next_level_is_taken_where_the_kernel_refuses_the_matrix_unit(machine, asked):
    machine(ALL)
    asked("the kernel refuses")
    assert choose_level(WITH_UNIT).device == "x86-64-v4"


def test_refusal_is_told_where_no_other_level_is_wanted(machine, asked):
    machine(ALL)
    asked("the kernel refuses its registers")
    with pytest.raises(PlatformError) as caught:
        choose_level(WITH_UNIT, UNIT)
    assert str(caught.value) == (
        "failed to load bundle with level 'x86-64-v4-amx': its code for x86-64-v4-amx uses amx_tile (the kernel "
        "refuses its registers), which this machine does not have; name no level, and one that fits "
        "is taken"
    )


def test_refusal_is_told_where_there_is_no_other_level(machine, asked):
    machine(ALL)
    asked("the kernel refuses")
    alone = replace(WITH_UNIT, levels=WITH_UNIT.levels[:1])
    with pytest.raises(PlatformError, match=r"uses amx_tile \(the kernel refuses\), .*; build it"):
        choose_level(alone)
    assert missing(WITH_UNIT) == (("amx_tile (the kernel refuses)",), (), (), ())
    assert fitting_level(WITH_UNIT).device == "x86-64-v4"


def test_kernel_is_not_asked_for_what_no_code_uses(machine, asked):
    machine(ALL)
    calls = asked("")
    choose_level(MANIFEST)
    assert not calls


def test_kernel_is_not_asked_where_the_cpu_has_no_unit(machine, asked):
    machine(NEWEST)
    calls = asked("")
    assert choose_level(WITH_UNIT).device == "x86-64-v4"
    assert not calls
