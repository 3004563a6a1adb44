"""A level: what it lacks to run, its kernels, and the description of a library."""

from dataclasses import replace

import pytest

from tvm_conv3dt.errors import FileFormatError
from tvm_conv3dt.level import Kernel, Level, LibraryFile, ScheduleSummary

SCHEDULE = ScheduleSummary("default", "phases", None)
KERNELS = tuple(
    Kernel(name, LibraryFile(f"{name}.so", "ab" * 32, 1), (8,), "float32", 0, SCHEDULE)
    for name in "ab"
)
LEVEL = Level("x86-64-v3", "x86-64-v3", ("fma", "avx2", "f16c"), KERNELS)


@pytest.mark.parametrize(
    ("features", "missing"),
    [
        (set(), ("avx2", "f16c", "fma")),
        ({"avx2", "popcnt"}, ("f16c", "fma")),
        ({"avx2", "f16c", "fma", "avx512f"}, ()),
    ],
)
def test_what_a_cpu_lacks_is_named(features, missing):
    assert LEVEL.missing(frozenset(features)) == missing


def test_kernel_is_found_by_its_layer():
    assert [LEVEL.kernel(name) for name in "ab"] == list(KERNELS)


def test_kernel_of_no_layer_is_not_found():
    with pytest.raises(KeyError, match="c"):
        LEVEL.kernel("c")


@pytest.mark.parametrize(
    ("arch", "capability"),
    [("sm_75", (7, 5)), ("sm_90", (9, 0)), ("sm_120", (12, 0)), (None, None)],
)
def test_architecture_of_a_gpu_is_a_compute_capability(arch, capability):
    assert replace(LEVEL, gpu_arch=arch).capability == capability


def test_library_is_described_as_it_is(tmp_path):
    (tmp_path / "k.so").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert LibraryFile.of(tmp_path / "k.so") == LibraryFile("k.so", digest, 3)


def test_library_that_is_missing_cannot_be_described(tmp_path):
    with pytest.raises(FileFormatError, match="No such file"):
        LibraryFile.of(tmp_path / "k.so")
