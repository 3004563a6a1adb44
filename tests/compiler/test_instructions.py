"""Does the code for each device use the vectors that it has, and no wider ones? Nothing here is linked or run."""

import re

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.schedule import default_schedule
from tvm_conv3dt.spec import Workload

# Whole vectors of every width, and nothing folded.
WORKLOAD = Workload.make(
    (1, 4, 4, 8, 16), (2, 2, 2, 32, 16), (1, 8, 8, 16, 32), 2, "VALID", bias=True
)


def assembly(name):
    """The text of the code for a device."""
    device = catalogue.get(name)
    default = default_schedule(WORKLOAD, device)
    built = kernel.compile_kernel(default.layout(device), device, default.apply(device))
    return built.module.mod.inspect_source("asm")


def registers(text):
    """The kinds of x86 vector register that a code names."""
    return set(re.findall(r"%([xyz]mm)\d", text))


@pytest.mark.parametrize(
    ("name", "multiply", "allowed"),
    [
        ("x86-64-v2", r"mulps\s.*%xmm\d", {"xmm"}),
        ("x86-64-v3", r"vfmadd\d+ps\s.*%ymm\d", {"xmm", "ymm"}),
        ("x86-64-v4", r"vfmadd\d+ps\s.*%zmm\d", {"xmm", "ymm", "zmm"}),
    ],
)
def test_x86_64_level_multiplies_whole_vectors_of_its_width(name, multiply, allowed):
    text = assembly(name)
    assert re.search(multiply, text)
    assert registers(text) <= allowed


@pytest.mark.parametrize("features", [r"vfmadd", r"\bv[a-z]+ps\b"], ids=["fma", "avx"])
def test_x86_64_v2_has_no_instructions_of_higher_levels(features):
    assert not re.search(features, assembly("x86-64-v2"))


AARCH64 = [
    name
    for name in catalogue.names()
    if name != catalogue.HOST and catalogue.get(name).arch == "aarch64"
]


@pytest.mark.parametrize("name", AARCH64)
def test_aarch64_device_multiplies_vectors_of_128_bits(name):
    text = assembly(name)
    assert re.search(r"fmla\s+v\d+\.4s, v\d+\.4s, v\d+\.(4s|s\[\d\])", text)
    # No scalable vectors: the catalogue asks for asimd alone.
    assert not re.search(r"\bz\d+\.s\b", text)
