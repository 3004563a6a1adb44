"""Loading a bundle of several levels: the one that is chosen runs, and says so."""

import shutil

import numpy as np
import pytest

from tvm_conv3dt import cpu, errors, runtime, tile_state
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.runtime import library


@pytest.fixture(scope="module")
def folder(make_bundle, bundle, tmp_path_factory):
    """A bundle of two levels, of which the first needs a feature that no machine has."""
    levels = {"high": ("warp_drive",), "low": ()}
    path = tmp_path_factory.mktemp("levels") / "bundle"
    return make_bundle(path, {"test/plain": bundle.workloads["test/plain"]}, levels)


@pytest.fixture
def copied(folder, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(folder, tmp_path / "bundle")


@pytest.fixture
def any_level(monkeypatch):
    """A machine that fits both levels."""
    monkeypatch.setattr(cpu, "features", lambda: frozenset({"warp_drive"}))


def library_of(folder, level):
    return next(folder.glob(f"*.{level}.so"))


def damage(folder, level):
    content = bytearray(library_of(folder, level).read_bytes())
    content[-1] ^= 1
    library_of(folder, level).write_bytes(content)


def operator(bundle):
    workload = bundle.workloads["test/plain"]
    return bundle.operator("test/plain", integer_data(workload, 1)[1])


def test_level_that_fits_is_loaded(folder):
    bundle = runtime.load(folder)
    assert repr(bundle) == f"<Bundle {folder}: 1 layers for low>"
    assert [level.device for level in bundle.manifest.levels] == ["high", "low"]
    assert bundle.kernel("test/plain") == bundle.manifest.levels[1].kernels[0]


@pytest.mark.usefixtures("any_level")
def test_most_demanding_level_is_loaded_where_all_fit(folder):
    assert runtime.load(folder).level.device == "high"


@pytest.mark.usefixtures("any_level")
@pytest.mark.parametrize("level", ["high", "low"])
def test_level_that_is_named_runs(folder, level):
    bundle = runtime.load(folder, level=level)
    workload = bundle.workloads["test/plain"]
    x, filters, _ = integer_data(workload, 1)
    y = bundle.operator("test/plain", filters)(x)
    np.testing.assert_array_equal(y, reference(workload, x, filters))
    assert bundle.level.device == level


@pytest.mark.usefixtures("any_level")
@pytest.mark.parametrize(("level", "other"), [("high", "low"), ("low", "high")])
def test_libraries_of_the_level_alone_are_loaded(copied, level, other):
    damage(copied, other)
    operator(runtime.load(copied, level=level))
    with pytest.raises(errors.LibraryError, match=rf"{other}\.so: its SHA-256 is"):
        operator(runtime.load(copied, level=other))


def test_level_whose_features_are_missing_is_refused(folder):
    with pytest.raises(errors.PlatformError, match=r"uses warp_drive, which.*; name no level"):
        runtime.load(folder, level="high")


def test_level_that_is_not_there_is_refused(folder):
    with pytest.raises(errors.DeviceError, match="level 'middle': it has high, low"):
        runtime.load(folder, level="middle")


def test_missing_library_of_another_level_is_refused(copied):
    library_of(copied, "high").unlink()
    with pytest.raises(errors.LibraryError, match=r"high\.so: the file is missing"):
        runtime.load(copied)


def test_folder_is_moved_with_its_levels(copied, tmp_path):
    bundle = runtime.load(copied.rename(tmp_path / "elsewhere"))
    assert operator(bundle).workload == bundle.workloads["test/plain"]


@pytest.fixture(scope="module")
def unit_folder(make_bundle, bundle, tmp_path_factory):
    """A bundle whose first level says that it uses a matrix unit."""
    path = tmp_path_factory.mktemp("unit") / "bundle"
    levels = {"unit": ("amx_tile",), "none": ()}
    return make_bundle(path, {"test/plain": bundle.workloads["test/plain"]}, levels)


@pytest.fixture
def events(monkeypatch):
    """Makes a CPU with a matrix unit and a kernel that answers; returns what happens, in its order."""
    found = []

    def noted(name):
        original = getattr(library, name)

        def call(*arguments):
            found.append(name)
            return original(*arguments)

        monkeypatch.setattr(library, name, call)

    def answers(reason):
        monkeypatch.setattr(cpu, "features", lambda: frozenset({"amx_tile"}))
        monkeypatch.setattr(tile_state, "refusal", lambda: found.append("asked") or reason)
        noted("load_runtime"), noted("load_library")
        return found

    return answers


def test_kernel_is_asked_for_the_matrix_unit_before_any_library_is_loaded(unit_folder, events):
    found = events("")
    bundle = runtime.load(unit_folder)
    operator(bundle)
    assert bundle.level.device == "unit"
    assert found == ["asked", "load_runtime", "load_library"]


def test_libraries_of_the_next_level_are_loaded_where_the_kernel_refuses(unit_folder, events):
    events("the kernel refuses")
    bundle = runtime.load(unit_folder)
    assert bundle.level.device == "none"
    assert operator(bundle).workload == bundle.workloads["test/plain"]
    with pytest.raises(errors.PlatformError, match=r"uses amx_tile \(the kernel refuses\)"):
        runtime.load(unit_folder, level="unit")


def test_level_without_the_matrix_unit_that_is_named_asks_for_nothing(unit_folder, events):
    found = events("")
    runtime.load(unit_folder, level="none")
    assert found == ["load_runtime"]
