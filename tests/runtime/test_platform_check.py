"""Which level of a bundle a machine is to run: the most demanding that it can, the one named, or none."""

import platform

import pytest

from tvm_conv3dt import device
from tvm_conv3dt.errors import DeviceError, PlatformError
from tvm_conv3dt.level import Level, LibraryFile
from tvm_conv3dt.manifest import Manifest, Platform
from tvm_conv3dt.runtime.platform_check import check_machine, choose_level, fitting_level

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
def cpu(monkeypatch):
    """A function that makes this an x86-64 machine whose CPU has the given features."""

    def has(features):
        monkeypatch.setattr(platform, "system", lambda: "Linux")
        monkeypatch.setattr(device, "architecture", lambda: "x86_64")
        monkeypatch.setattr(device, "cpu_features", lambda: frozenset(features))

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
def test_most_demanding_level_that_fits_is_taken(cpu, features, level):
    cpu(features)
    assert choose_level(MANIFEST).device == level
    assert fitting_level(MANIFEST) is choose_level(MANIFEST)


@pytest.mark.parametrize("name", NAMES)
def test_level_that_is_named_is_taken(cpu, name):
    cpu(NEWEST)
    assert choose_level(MANIFEST, name).device == name


def test_machine_that_fits_no_level_is_told_what_it_lacks_for_each(cpu):
    cpu({"avx2", "popcnt", "sse4_2", *NEEDS["x86-64-v4"]} - {"avx512f", "fma"})
    with pytest.raises(PlatformError) as caught:
        choose_level(MANIFEST)
    assert str(caught.value) == (
        "failed to load bundle with levels 'x86-64-v4', 'x86-64-v3', 'x86-64-v2': "
        "its code for x86-64-v4 uses avx512f, fma, and its code for x86-64-v3 uses fma, and its code for "
        "x86-64-v2 uses ssse3, which this CPU does not have; "
        "build it for this machine with: tvm-conv3dt build --device NAME (see tvm-conv3dt device)"
    )
    assert fitting_level(MANIFEST) is None


def test_level_that_is_named_and_does_not_fit_is_refused(cpu):
    cpu(WITHOUT_AVX512)
    with pytest.raises(PlatformError) as caught:
        choose_level(MANIFEST, "x86-64-v4")
    assert str(caught.value) == (
        "failed to load bundle with level 'x86-64-v4': its code for x86-64-v4 uses avx512bw, avx512cd, "
        "avx512dq, avx512f, avx512vl, which this CPU does not have; "
        "name no level, and one that fits is taken"
    )


def test_level_that_is_named_where_none_fits_is_refused(cpu):
    cpu(())
    with pytest.raises(PlatformError, match=r"uses popcnt, sse4_2, ssse3, which.*; build it for"):
        choose_level(MANIFEST, "x86-64-v2")


@pytest.mark.parametrize("name", ["x86-64-v5", "", "X86-64-V3", 3])
def test_level_that_the_bundle_does_not_have_is_refused(cpu, name):
    cpu(NEWEST)
    with pytest.raises(DeviceError, match=r"with level .*: it has x86-64-v4, x86-64-v3, x86-64-v2"):
        choose_level(MANIFEST, name)


def test_bundle_of_another_architecture_is_refused_whatever_its_cpu_has(cpu, monkeypatch):
    cpu(NEWEST)
    monkeypatch.setattr(device, "architecture", lambda: "riscv64")
    with pytest.raises(PlatformError, match=r"levels 'x86-64-v4'.* for linux on x86_64, and this"):
        check_machine(MANIFEST)
    assert fitting_level(MANIFEST) is None
