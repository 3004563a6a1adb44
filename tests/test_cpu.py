"""Is this machine's CPU what NumPy and the kernel say of it?"""

import platform
from pathlib import Path

import numpy as np
import pytest

from tvm_conv3dt import cpu

V3 = {"sse3", "ssse3", "sse4_1", "sse4_2", "popcnt", "avx", "avx2", "f16c", "fma"}
V4 = V3 | {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}


@pytest.mark.parametrize(
    ("reported", "arch"),
    [
        ("AMD64", "x86_64"),
        ("x86_64", "x86_64"),
        ("arm64", "aarch64"),
        ("armv7l", "armv7"),
        ("armv8l", "armv7"),
    ],
)
def test_an_architecture_has_one_name(monkeypatch, reported, arch):
    monkeypatch.setattr(platform, "machine", lambda: reported)
    assert cpu.architecture() == arch


@pytest.mark.parametrize(
    ("baseline", "found", "expected"),
    [
        (["X86_V2"], ["X86_V3"], V3),
        (["X86_V2"], ["X86_V3", "X86_V4", "AVX512_ICL"], V4),
        (
            ["SSE", "SSE2", "SSE3"],
            ["SSSE3", "SSE41", "POPCNT", "SSE42", "AVX", "F16C", "FMA3", "AVX2"],
            V3,
        ),
        (["SSE", "SSE2", "SSE3"], [], {"sse3"}),
    ],
    ids=["levels", "levels with AVX-512", "single names", "nothing found"],
)
def test_numpys_old_and_new_names_mean_the_same(monkeypatch, baseline, found, expected):
    simd = {"baseline": baseline, "found": found, "not found": ["AVX512_SPR"]}
    monkeypatch.setattr(np, "show_config", lambda mode: {"SIMD Extensions": simd})
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(cpu, "_CPUINFO", Path("/nowhere"))
    assert cpu.features() == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "flags\t\t: fpu amx_bf16 avx512_bf16 amx_tile amx_int8\n",
            {"amx_bf16", "amx_tile", "avx512_bf16"},
        ),
        ("flags: avx512_fp16\nflags: amx_tile\n", {"avx512_fp16"}),
        ("model name: amx_tile\nbugs: amx_bf16\n", set()),
        ("", set()),
    ],
    ids=["a server's", "the first core's", "in other lines", "nothing"],
)
def test_what_numpy_does_not_know_is_as_the_kernel_lists_it(monkeypatch, tmp_path, lines, expected):
    (tmp_path / "cpuinfo").write_text(lines)
    monkeypatch.setattr(np, "show_config", lambda mode: {"SIMD Extensions": {}})
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "cpuinfo")
    assert cpu.features() == expected


def test_the_kernels_word_counts_on_aarch64(monkeypatch):
    monkeypatch.setattr(np, "show_config", lambda mode: {"SIMD Extensions": {"baseline": ["NEON"]}})
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(cpu, "_hwcap", lambda: 1 << 1 | 1 << 10)
    assert cpu.features() == {"asimd", "asimdhp"}


def test_second_word_of_the_kernel_counts_too(monkeypatch):
    words = {16: 1 << 1 | 1 << 22, 26: 1 << 1 | 1 << 14}

    class Library:
        class getauxval:
            def __new__(cls, kind):
                return words[kind]

    monkeypatch.setattr(np, "show_config", lambda mode: {"SIMD Extensions": {"baseline": ["NEON"]}})
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(cpu.ctypes, "CDLL", lambda name: Library)
    assert cpu.features() == {"asimd", "sve", "sve2", "bf16"}


def test_armv7_has_bits_of_its_own(monkeypatch):
    monkeypatch.setattr(np, "show_config", lambda mode: {"SIMD Extensions": {"baseline": ["NEON"]}})
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "armv7l")
    monkeypatch.setattr(cpu, "_hwcap", lambda: 1 << 1 | 1 << 12 | 1 << 16)
    assert cpu.features() == {"neon", "vfpv4"}


def test_caches_are_read_from_the_kernel(tmp_path):
    for index, content in enumerate(
        [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K")]
    ):
        folder = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{index}"
        folder.mkdir(parents=True)
        for name, text in zip(("level", "type", "size"), content, strict=True):
            (folder / name).write_text(text + "\n")
    assert cpu.caches(tmp_path) == (48 * 1024, 2048 * 1024, 0)


def test_caches_that_the_kernel_does_not_list_are_zero(tmp_path):
    (tmp_path / "sys/devices/system/cpu/cpu0/cache/index0").mkdir(parents=True)
    assert cpu.caches(tmp_path) == (0, 0, 0)
