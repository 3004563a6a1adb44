"""Packing for a GPU machine: which wheels, and in which parts."""

import hashlib
import tarfile

import pytest
from packaging.requirements import Requirement


@pytest.fixture
def pack(script):
    return script("pack")


def test_parts_are_as_large_as_they_may_be_and_join_to_the_whole(pack, tmp_path):
    content = tmp_path / "content"
    content.mkdir()
    (content / "wheel").write_bytes(bytes(range(256)) * 100)
    names = pack.split(content, tmp_path / "parts", 10_000)
    parts = [tmp_path / "parts" / name for name, _ in names]
    sizes = [part.stat().st_size for part in parts]
    assert set(sizes[:-1]) == {10_000}
    assert 0 < sizes[-1] <= 10_000
    assert [digest for _, digest in names] == [
        hashlib.sha256(part.read_bytes()).hexdigest() for part in parts
    ]
    whole = tmp_path / "whole.tar"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    with tarfile.open(whole) as archive:
        assert archive.extractfile("./wheel").read() == bytes(range(256)) * 100


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("tomli; python_version < '3.11'", True),
        ("numpy==2.4.6; python_full_version == '3.11.*'", False),
        ("xgboost-cpu; platform_machine == 'x86_64'", False),
        ("cuda-toolkit; sys_platform == 'linux' and platform_machine == 'aarch64'", True),
        ("matplotlib; extra == 'plot'", True),
        ("pytest; extra == 'dev'", False),
    ],
)
def test_requirements_are_those_of_the_other_machine(pack, text, wanted):
    target = pack.Target("3.10", "manylinux_2_28_aarch64")
    assert target.wants(Requirement(text), ["plot"]) is wanted


def test_wheels_of_older_platforms_are_taken(pack):
    platforms = pack.Target("3.12", "manylinux_2_28_x86_64").platforms
    assert {"manylinux_2_28_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64"} <= set(platforms)
    assert "manylinux_2_29_x86_64" not in platforms


def test_a_platform_that_is_none_is_refused(pack):
    with pytest.raises(Exception, match="windows is not like manylinux_2_28_x86_64"):
        pack.Target("3.12", "windows")


@pytest.mark.parametrize("python", ["3.10", "3.12"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_package_that_compiles_cuda_has_a_version_there(pack, python, machine):
    target = pack.Target(python, f"manylinux_2_28_{machine}")
    names = dict(pack._constraints(target))
    wanted = {"apache-tvm", "pytest", "matplotlib", "cuda-bindings", "cuda-pathfinder"}
    assert wanted | {"nvidia-cuda-nvrtc", "nvidia-cuda-runtime", "nvidia-nvfatbin"} <= set(names)
