"""Is the catalogue sound, and is this machine found in it?"""

import platform

import pytest

from tvm_conv3dt import cpu, device, threads, tile_state
from tvm_conv3dt.errors import DeviceError, FileFormatError, PlatformError

V2 = {"sse3", "ssse3", "sse4_1", "sse4_2", "popcnt"}
V3 = V2 | {"avx", "avx2", "f16c", "fma"}
V4 = V3 | {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}
BF16 = V4 | {"avx512_bf16"}
AMX = BF16 | {"amx_tile", "amx_bf16", "avx512_fp16"}

MINIMAL = """
schema = 1
[device.one]
kind = "llvm"
os = "linux"
arch = "x86_64"
mcpu = "x86-64-v2"
mattr = []
cpu_features = []
vector_bits = 128
vector_registers = 16
cores = 4
l1_bytes = 1
l2_bytes = 2
l3_bytes = 3
fallback = []
[device.two]
inherits = "one"
mcpu = "x86-64-v3"
fallback = ["one"]
"""


@pytest.fixture
def machine(monkeypatch):
    """Make this process believe in another machine."""

    def pretend(system="Linux", arch="x86_64", features=frozenset(V3), refusal=""):
        monkeypatch.setattr(platform, "system", lambda: system)
        monkeypatch.setattr(platform, "machine", lambda: arch)
        monkeypatch.setattr(cpu, "features", lambda: frozenset(features))
        monkeypatch.setattr(tile_state, "refusal", lambda: asked.append(1) or refusal)
        return asked

    asked = []
    return pretend


def parse(tmp_path, text):
    path = tmp_path / "devices.toml"
    path.write_text(text)
    return device._parse(path)


# ---- the catalogue


@pytest.mark.parametrize(
    "name",
    [
        "x86-64-v2",
        "x86-64-v3",
        "x86-64-v4",
        "x86-64-v4-bf16",
        "x86-64-v4-amx",
        "aarch64",
        "raspberry-pi-3",
        "raspberry-pi-4",
        "raspberry-pi-5",
        "jetson-orin",
        "neoverse-n1",
        "neoverse-n2",
        "neoverse-v1",
        "neoverse-v2",
        "armv7",
        "jetson-orin-gpu",
        "cuda-sm75",
        "cuda-sm90",
    ],
)
def test_the_named_devices_exist(name):
    assert device.get(name).name == name
    assert name in device.names()


@pytest.mark.parametrize("name", [name for name in device.names() if name != "host"])
def test_a_fallback_has_the_same_vectors(name):
    entry = device.get(name)
    for other in map(device.get, entry.fallback):
        assert other.kind == entry.kind
        assert other.vector_bits == entry.vector_bits
        assert other.vector_registers == entry.vector_registers


@pytest.mark.parametrize(
    ("name", "mcpu", "bits", "registers"),
    [
        ("x86-64-v2", "x86-64-v2", 128, 16),
        ("x86-64-v3", "x86-64-v3", 256, 16),
        ("x86-64-v4", "x86-64-v4", 512, 32),
        ("x86-64-v4-bf16", "x86-64-v4", 512, 32),
        ("x86-64-v4-amx", "x86-64-v4", 512, 32),
        ("raspberry-pi-4", "cortex-a72", 128, 32),
        ("jetson-orin", "cortex-a78ae", 128, 32),
        ("neoverse-v2", "neoverse-v2", 128, 32),
        ("armv7", "cortex-a7", 128, 16),
    ],
)
def test_an_entry_has_its_own_values_and_inherits_the_rest(name, mcpu, bits, registers):
    entry = device.get(name)
    assert (entry.mcpu, entry.vector_bits, entry.vector_registers) == (mcpu, bits, registers)
    assert (entry.kind, entry.os) == ("llvm", "linux")


@pytest.mark.parametrize("name", ["x86-64-v5", "", "HOST", None, ["x86-64-v3"]])
def test_an_unknown_device_is_refused_with_the_names(name):
    with pytest.raises(
        DeviceError, match=r"failed to find device .*host, x86-64-v2, .*jetson-orin"
    ):
        device.get(name)


def test_inheritance_in_a_catalogue(tmp_path):
    devices = parse(tmp_path, MINIMAL)
    assert devices["two"].mcpu == "x86-64-v3"
    assert devices["two"].l3_bytes == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('inherits = "one"', 'inherits = "none"', "two: it inherits 'none'"),
        ('inherits = "one"', "", "two: its field kind is missing"),
        ("cores = 4", "cores = true", "one: its field cores is True and must be int"),
        ("mattr = []", "mattr = [1]", "one: its field mattr is .1. and must be tuple"),
        ("mattr = []", "mattr = []\nmatr = []", "one: it has unknown fields: matr"),
        ('fallback = ["one"]', 'fallback = ["three"]', "two: its fallback three is no device"),
        ("[device.one]", "device.x = 1\n[device.one]", "x: it must be a table"),
        ("schema = 1", "schema = 2", "its schema is 2"),
        (
            'mcpu = "x86-64-v3"',
            'host = "one"',
            "two: its host one must be a CPU .* only GPUs have one",
        ),
    ],
)
def test_a_damaged_catalogue_is_refused(tmp_path, old, new, message):
    with pytest.raises(FileFormatError, match=message):
        parse(tmp_path, MINIMAL.replace(old, new))


# ---- the host


def test_host_has_this_process_threads_and_features():
    host = device.get("host")
    assert host.cores == threads.available()
    assert host.arch == cpu.architecture()
    assert cpu.features() >= set(host.cpu_features)
    assert host.l1_bytes > 0


@pytest.mark.parametrize(
    ("features", "level"),
    [
        (V2, "x86-64-v2"),
        (V3, "x86-64-v3"),
        (V4, "x86-64-v4"),
        (BF16, "x86-64-v4-bf16"),
        (AMX, "x86-64-v4-amx"),
        (AMX - {"amx_bf16"}, "x86-64-v4"),
        (AMX - {"avx512_fp16"}, "x86-64-v4"),
    ],
)
def test_host_is_the_highest_level_whose_features_are_there(machine, features, level):
    machine(features=features)
    assert device.host().name == level
    assert device.host().mcpu == level.removesuffix("-amx").removesuffix("-bf16")


def test_matrix_unit_whose_registers_the_kernel_refuses_is_no_part_of_the_host(machine):
    machine(features=AMX, refusal="the kernel refuses")
    assert device.host().name == "x86-64-v4"
    assert device.host("sapphirerapids").fallback == ("x86-64-v4",)


def test_host_that_multiplies_pairs_takes_the_schedules_of_the_one_that_does_not(machine):
    asked = machine(features=BF16)
    assert device.host().mattr == ("+avx512bf16",)
    assert device.host().fallback == ("x86-64-v4",)
    assert device.host("znver4").fallback == ("x86-64-v4-bf16", "x86-64-v4")
    assert not asked


def test_host_with_a_matrix_unit_takes_the_schedules_of_the_one_without(machine):
    machine(features=AMX)
    assert device.host().fallback == ("x86-64-v4",)
    assert device.host("sapphirerapids").fallback == ("x86-64-v4-amx", "x86-64-v4")


@pytest.mark.parametrize("features", [V4, BF16, AMX - {"avx512_bf16"}])
def test_kernel_is_not_asked_for_registers_that_the_host_is_not_to_use(machine, features):
    asked = machine(features=features)
    device.host()
    assert not asked


def test_a_level_with_one_feature_missing_is_not_taken(machine):
    machine(features=V4 - {"avx512vl"})
    assert device.host().mcpu == "x86-64-v3"


def test_a_microarchitecture_names_the_host_and_its_level_falls_back(machine):
    machine(features=V3)
    host = device.host("sapphirerapids")
    assert (host.name, host.mcpu, host.fallback) == ("sapphirerapids", "x86-64-v3", ("x86-64-v3",))


@pytest.mark.parametrize("microarchitecture", [None, "generic", "x86-64-v4", "x86-64-v2"])
def test_a_name_that_is_no_microarchitecture_leaves_the_level(machine, microarchitecture):
    machine(features=V3)
    host = device.host(microarchitecture)
    assert (host.name, host.mcpu) in {("x86-64-v3",) * 2, ("x86-64-v2",) * 2}


def test_a_cpu_of_the_catalogue_is_found_by_its_name(machine):
    machine(arch="aarch64", features={"asimd"})
    host = device.host("cortex-a72")
    assert (host.name, host.mcpu) == ("cortex-a72", "cortex-a72")
    assert host.fallback == ("raspberry-pi-4", "aarch64")


def test_a_cpu_of_the_catalogue_without_its_features_is_not_taken(machine):
    machine(arch="aarch64", features={"asimd"})
    assert device.host("cortex-a76").mcpu == "generic"


@pytest.mark.parametrize(
    "other",
    [
        {"features": {"sse3"}},
        {"system": "Darwin", "arch": "arm64", "features": {"asimd"}},
        {"arch": "riscv64", "features": ()},
    ],
    ids=["old CPU", "macOS", "RISC-V"],
)
def test_a_machine_that_nothing_is_built_for_is_an_error(machine, other):
    machine(**other)
    with pytest.raises(PlatformError, match="failed to find device with os "):
        device.host()


def test_gpu_of_a_board_names_the_boards_cpu():
    gpu = device.get("jetson-orin-gpu")
    assert (gpu.arch, gpu.host) == ("sm_87", "jetson-orin")
    assert device.get("cuda-sm87").host == ""


@pytest.mark.parametrize(
    ("name", "triple"),
    [("aarch64", "aarch64-linux-gnu"), ("armv7", "armv7-linux-gnueabihf")],
)
def test_platform_has_gnus_name(name, triple):
    assert device.get(name).triple == triple


def test_what_does_a_gpu_take_from_the_entry_that_it_inherits():
    h100, a100 = device.get("cuda-sm90").gpu, device.get("cuda-sm80").gpu
    assert (h100.multiprocessors, a100.multiprocessors) == (132, 108)
    assert h100.threads_per_multiprocessor == a100.threads_per_multiprocessor == 2048
    assert device.get("x86-64-v4").gpu is None
