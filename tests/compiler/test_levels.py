"""Bundles of several levels: which devices go together, in which order, and is each level's code right?"""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import cpu, runtime, tile_state
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.bundle_writer import build_bundle
from tvm_conv3dt.compiler.levels import levels_of
from tvm_conv3dt.compiler.spaces.core_model import adds_apart
from tvm_conv3dt.errors import DeviceError, FileWriteError, WorkloadNotFoundError
from tvm_conv3dt.manifest import Manifest
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

X86 = ("x86-64-v4-amx", "x86-64-v4-bf16", "x86-64-v4", "x86-64-v3", "x86-64-v2")
# This architecture's, most demanding first.
NAMES = X86 if cpu.architecture() == "x86_64" else ("raspberry-pi-5", "aarch64")
LEVELS = [catalogue.get(name) for name in NAMES]
RUNNABLE = [
    level
    for level in LEVELS
    if set(level.cpu_features) <= cpu.features()
    and (tile_state.FEATURE not in level.cpu_features or not tile_state.refusal())
]

ACTIVE = Workload.make(
    (1, 3, 4, 5, 6), (3, 2, 3, 20, 6), (1, 6, 8, 9, 20), 2, bias=True, activation="relu"
)


@pytest.fixture(scope="module")
def named(small):
    return [NamedWorkload("net/up", small), NamedWorkload("net/active", ACTIVE)]


@pytest.fixture(scope="module")
def built(named, tmp_path_factory):
    """A bundle of all levels, to be read only; built from the least demanding one up."""
    folder = tmp_path_factory.mktemp("levels") / "bundle"
    build(named, LEVELS[::-1], folder)
    return folder


def build(named, devices, output):
    return build_bundle(named, devices, output, schedules=[], allow_untuned=True)


def names_of(levels):
    return [level.name for level in levels]


def get(*names):
    return [catalogue.get(name) for name in names]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["x86-64-v3"], ["x86-64-v3"]),
        (list(reversed(X86)), list(X86)),
        ([X86[2], X86[0], X86[4], X86[1], X86[3]], list(X86)),
        (["aarch64", "raspberry-pi-5"], ["raspberry-pi-5", "aarch64"]),
        (["neoverse-n1", "aarch64", "neoverse-v2"], ["neoverse-v2", "neoverse-n1", "aarch64"]),
        (["cuda-sm80", "cuda-sm100", "cuda-sm90"], ["cuda-sm100", "cuda-sm90", "cuda-sm80"]),
    ],
)
def test_most_demanding_level_comes_first(given, expected):
    assert names_of(levels_of(get(*given))) == expected


def test_device_that_is_given_twice_counts_once():
    assert names_of(levels_of(get("x86-64-v2", "x86-64-v3", "x86-64-v2"))) == list(X86[3:])


def test_no_device_is_refused():
    with pytest.raises(DeviceError, match="with no device: it needs one level at least"):
        levels_of([])


@pytest.mark.parametrize(
    ("first", "second", "platforms"),
    [
        ("x86-64-v3", "raspberry-pi-4", ("linux x86_64 llvm", "linux aarch64 llvm")),
        ("x86-64-v3", "jetson-orin-gpu", ("linux x86_64 llvm", "linux aarch64 cuda")),
        ("raspberry-pi-4", "jetson-orin-gpu", ("linux aarch64 llvm", "linux aarch64 cuda")),
    ],
)
def test_devices_of_different_platforms_are_refused(first, second, platforms):
    with pytest.raises(DeviceError) as caught:
        levels_of(get(first, second))
    assert str(caught.value) == (
        f"failed to build bundle with devices {first} ({platforms[0]}) and {second} ({platforms[1]}): "
        "its levels must be of one operating system, architecture and kind; build a bundle for each"
    )


def test_devices_of_different_systems_are_refused():
    (first,) = get("x86-64-v2")
    other = replace(catalogue.get("x86-64-v3"), os="darwin")
    with pytest.raises(DeviceError, match=r"\(linux x86_64 llvm\) and .*\(darwin x86_64 llvm\)"):
        levels_of([first, other])


def test_devices_that_loading_cannot_tell_apart_are_refused():
    rule = "devices raspberry-pi-3 and raspberry-pi-4: both need asimd, and nothing else tells"
    with pytest.raises(DeviceError, match=rule):
        levels_of(get("raspberry-pi-3", "raspberry-pi-5", "raspberry-pi-4"))


@pytest.fixture
def on_aarch64(monkeypatch):
    monkeypatch.setattr(cpu, "architecture", lambda: "aarch64")


def test_gpus_beside_cpus_of_different_architectures_are_refused(monkeypatch):
    monkeypatch.setattr(cpu, "architecture", lambda: "x86_64")
    platforms = r"cuda-sm90 \(linux x86_64 cuda\) and jetson-orin-gpu \(linux aarch64 cuda\)"
    with pytest.raises(DeviceError, match=platforms):
        levels_of(get("cuda-sm90", "jetson-orin-gpu"))


def test_gpus_beside_cpus_of_one_architecture_are_ordered(on_aarch64):
    found = levels_of(get("jetson-orin-gpu", "cuda-sm87", "cuda-sm90"))
    assert names_of(found) == ["cuda-sm90", "jetson-orin-gpu", "cuda-sm87"]


def test_one_gpu_beside_cpus_of_the_same_needs_is_refused(on_aarch64):
    (gpu,) = get("jetson-orin-gpu")
    rule = "jetson-orin-gpu and other: both need asimd, asimdhp, sm_87, and nothing else tells"
    with pytest.raises(DeviceError, match=rule):
        levels_of([gpu, replace(gpu, name="other")])


def test_two_devices_of_one_name_are_refused():
    (device,) = get("x86-64-v2")
    other = replace(device, cpu_features=("popcnt",))
    with pytest.raises(
        DeviceError, match="with two devices x86-64-v2: they differ, and a level is"
    ):
        levels_of([device, other])


def test_mixed_devices_are_refused_before_anything_is_built(named, tmp_path):
    with pytest.raises(DeviceError, match="one operating system, architecture and kind"):
        build(named, get("x86-64-v3", "raspberry-pi-4"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_schedule_that_one_level_lacks_is_missed_before_anything_is_built(named, tmp_path):
    with pytest.raises(WorkloadNotFoundError, match=f"tune --device {LEVELS[0].name}"):
        build_bundle(named, LEVELS, tmp_path / "out", schedules=[tmp_path])
    assert list(tmp_path.iterdir()) == []


def test_manifest_lists_the_levels_most_demanding_first(built, named):
    manifest = Manifest.read(built)
    assert [level.device for level in manifest.levels] == list(NAMES)
    for level, device in zip(manifest.levels, LEVELS, strict=True):
        assert (level.mcpu, level.cpu_features) == (device.mcpu, device.cpu_features)
        assert [kernel.layer for kernel in level.kernels] == [each.name for each in named]


def test_each_level_has_libraries_of_its_own_and_all_share_the_rest(built, named):
    libraries = {f"{each.workload.id}.{name}.so" for each in named for name in NAMES}
    others = {"manifest.json", "libtvm_runtime.so", "LICENSE.tvm", "NOTICE.tvm"}
    assert {path.name for path in built.iterdir()} == libraries | others
    for each in named:
        contents: dict[tuple[str, bool, bool], set[bytes]] = {}
        for level in LEVELS:
            # Products of bfloat16 are of no use to float32, but TVM puts its own conversions of float16 into every library, and
            # the default point may be another where a core starts fewer multiply-adds.
            kind = level.mcpu, "avx512_fp16" in level.cpu_features, adds_apart(level)
            library = built / f"{each.workload.id}.{level.name}.so"
            contents.setdefault(kind, set()).add(library.read_bytes())
        assert all(len(of_kind) == 1 for of_kind in contents.values())
        by_code: dict[tuple[str, bool], set[bytes]] = {}
        for (mcpu, halves, _), of_kind in contents.items():
            by_code.setdefault((mcpu, halves), set()).update(of_kind)
        assert sum(map(len, by_code.values())) == len(set.union(*by_code.values()))


@pytest.mark.parametrize("device", RUNNABLE, ids=lambda device: device.name)
def test_level_equals_the_reference(built, named, device):
    bundle = runtime.load(built, level=device.name)
    assert bundle.level.device == device.name
    for each in named:
        x, filters, bias = integer_data(each.workload, seed=0)
        out = np.full(each.workload.output_shape, np.nan, np.float32)
        bundle.operator(each.name, filters, bias)(x, out=out)
        assert np.array_equal(out, reference(each.workload, x, filters, bias))


@pytest.mark.parametrize("device", RUNNABLE, ids=lambda device: device.name)
def test_level_is_picked_on_a_machine_of_its_features(built, device, monkeypatch):
    # Each level of x86-64 has the features of the ones below it, which the catalogue does not repeat.
    below = LEVELS[LEVELS.index(device) :]
    features = frozenset(feature for level in below for feature in level.cpu_features)
    monkeypatch.setattr(cpu, "features", lambda: features)
    assert runtime.load(built).level.device == device.name


def test_most_demanding_runnable_level_is_picked_here(built):
    assert runtime.load(built).level.device == RUNNABLE[0].name


def test_half_layer_is_exact_at_the_level_that_multiplies_pairs(tmp_path):
    pytest.importorskip("ml_dtypes")
    pairs, without = get("x86-64-v4-bf16", "x86-64-v4")
    if not set(pairs.cpu_features) <= cpu.features():
        pytest.skip("this CPU does not multiply pairs of bfloat16")
    half = NamedWorkload("net/half", ACTIVE.recast(dtype="bfloat16"))
    build([half], [without, pairs], tmp_path / "out")
    bundle = runtime.load(tmp_path / "out")
    assert bundle.level.device == pairs.name
    x, filters, bias = integer_data(half.workload, seed=0)
    found = bundle.operator("net/half", filters, bias)(x)
    assert np.array_equal(found, reference(half.workload, x, filters, bias).astype(found.dtype))


def test_bundle_of_two_levels_replaces_one_of_all(named, tmp_path):
    build(named[:1], LEVELS, tmp_path / "out")
    manifest = build(named[:1], LEVELS[:2], tmp_path / "out")
    assert Manifest.read(tmp_path / "out") == manifest
    assert [level.device for level in manifest.levels] == list(NAMES[:2])
    assert len(list((tmp_path / "out").glob("n1_*.so"))) == 2


def test_bundle_of_levels_with_a_library_that_it_does_not_name_is_not_touched(named, tmp_path):
    build(named[:1], LEVELS[:2], tmp_path / "out")
    foreign = tmp_path / "out" / f"{named[0].workload.id}.abacus.so"
    foreign.write_text("mine")
    with pytest.raises(FileWriteError, match="or other files beside one"):
        build(named[:1], LEVELS[:2], tmp_path / "out")
    assert foreign.read_text() == "mine"
