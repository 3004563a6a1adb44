"""Loading: what a good bundle gives, and the error of each kind of bad one."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tvm_conv3dt import cpu, errors, runtime
from tvm_conv3dt.level import LibraryFile
from tvm_conv3dt.manifest import FILE_NAME
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.runtime.bundle import loaded
from tvm_conv3dt.spec import Workload


def edit(folder, change):
    path = folder / FILE_NAME
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def filters_of(bundle, name):
    return integer_data(bundle.workloads[name], 1)[1]


def test_bundle_says_what_it_holds(bundle, bundle_folder):
    assert list(bundle.workloads) == ["test/plain", "test/biased", "test/large"]
    assert [layer.name for layer in bundle.layers] == list(bundle.workloads)
    assert bundle.path == bundle_folder
    assert bundle.level.device == "test"
    assert bundle.manifest.levels == (bundle.level,)
    assert repr(bundle) == f"<Bundle {bundle_folder}: 3 layers for test>"


@pytest.mark.parametrize("kind", ["name", "id", "workload"])
def test_layer_is_found_by(bundle, kind):
    workload = bundle.workloads["test/plain"]
    which = {"name": "test/plain", "id": workload.id, "workload": workload}[kind]
    assert which in bundle
    assert bundle.kernel(which) == bundle.level.kernels[0]
    assert bundle.operator(which, filters_of(bundle, "test/plain")).workload == workload


@pytest.mark.parametrize("which", ["test/none", "", None, 3, np.zeros(3)], ids=str)
def test_layer_that_it_does_not_hold_is_refused(bundle, which):
    assert which not in bundle
    with pytest.raises(errors.WorkloadNotFoundError, match="holds test/plain, test/biased"):
        bundle.operator(which, np.zeros((1, 1, 1, 1, 1), np.float32))


def test_workload_that_it_does_not_hold_is_named_by_its_id(bundle):
    other = Workload.make([1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], 1)
    with pytest.raises(errors.WorkloadNotFoundError, match=other.id):
        bundle.layer(other)


@pytest.mark.parametrize("path", [None, 3, b"bundle"])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(errors.ArgumentTypeError, match="must be the path of a folder"):
        runtime.load(path)


def test_name_that_no_file_can_have_is_refused():
    with pytest.raises(errors.FileFormatError, match="failed to read file"):
        runtime.load("x" * 300)


def test_threads_may_load_while_others_look_at_what_is_loaded(bundle_folder):
    def work(number):
        if number % 2:
            return [len(loaded()) for _ in range(300)]
        return [runtime.load(bundle_folder) for _ in range(30)]

    with ThreadPoolExecutor(4) as threads:
        for _ in threads.map(work, range(8)):
            pass


@pytest.mark.parametrize("name", ["missing", "file", "empty"])
def test_folder_that_is_no_bundle_is_refused(tmp_path, name):
    (tmp_path / "file").write_text("{}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.FileFormatError, match=r"has no manifest\.json; name the folder"):
        runtime.load(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b'{"schema": 3}'])
def test_damaged_manifest_is_refused(broken_folder, content):
    (broken_folder / FILE_NAME).write_bytes(content)
    with pytest.raises(errors.FileFormatError, match=r"manifest\.json"):
        runtime.load(broken_folder)


def test_manifest_of_the_first_schema_is_refused(broken_folder):
    edit(broken_folder, lambda manifest: manifest.update(schema=1))
    with pytest.raises(errors.FileFormatError, match="its schema is 1 and this version reads 2 or"):
        runtime.load(broken_folder)


def as_schema_2(manifest):
    """What the version before CUDA wrote."""
    manifest["schema"] = 2
    del manifest["cuda"], manifest["wrapper"]
    for level in manifest["levels"]:
        del level["gpu_arch"]
        for kernel in level["kernels"]:
            del kernel["packed_dtype"], kernel["resources"]


def test_bundle_of_the_schema_before_loads_and_runs(bundle, broken_folder):
    edit(broken_folder, as_schema_2)
    earlier = runtime.load(broken_folder)
    assert earlier.manifest == bundle.manifest
    workload = earlier.workloads["test/plain"]
    x, filters, _ = integer_data(workload, seed=0)
    result = earlier.operator("test/plain", filters)(x)
    assert np.array_equal(result, reference(workload, x, filters))


def test_manifest_from_the_future_is_refused(broken_folder):
    edit(broken_folder, lambda manifest: manifest.update(schema=4, package="9.9.0"))
    with pytest.raises(
        errors.FileFormatError,
        match=r"its schema is 4 and this version reads 2 or 3; install tvm_conv3dt '9\.9\.0'",
    ):
        runtime.load(broken_folder)


@pytest.mark.parametrize("package", ["0.0.1", "9.9.0"])
def test_version_of_the_package_that_built_a_bundle_does_not_matter(broken_folder, package):
    edit(broken_folder, lambda manifest: manifest.update(package=package))
    assert runtime.load(broken_folder).manifest.package == package


@pytest.mark.parametrize(
    "installed", ["0.1.14", "0.1.14.post1", "0.1.15", "0.1.15.post2", "0.1.99"]
)
def test_tvm_ffi_of_the_same_series_that_is_not_older_is_taken(
    broken_folder, monkeypatch, installed
):
    edit(broken_folder, lambda manifest: manifest.update(tvm_ffi="0.1.14.post1"))
    monkeypatch.setattr("tvm_ffi.__version__", installed)
    assert runtime.load(broken_folder).manifest.tvm_ffi == "0.1.14.post1"


@pytest.mark.parametrize(("field", "value"), [("os", "windows"), ("arch", "riscv64")])
def test_bundle_for_another_platform_is_refused(broken_folder, field, value):
    edit(broken_folder, lambda manifest: manifest["platform"].update({field: value}))
    with pytest.raises(errors.PlatformError, match=rf"it was built for .*{value}.*; build it for"):
        runtime.load(broken_folder)


def test_bundle_for_another_cpu_is_refused(broken_folder, monkeypatch):
    monkeypatch.setattr(cpu, "features", lambda: frozenset({"avx2", "fma"}))
    needed = ["avx2", "avx512f", "amx_bf16"]
    edit(broken_folder, lambda manifest: manifest["levels"][0].update(cpu_features=needed))
    with pytest.raises(errors.PlatformError, match="uses amx_bf16, avx512f, which this CPU"):
        runtime.load(broken_folder)


def test_bundle_for_another_kind_of_device_is_refused(broken_folder):
    edit(broken_folder, lambda manifest: manifest["platform"].update(kind="metal"))
    with pytest.raises(errors.FileFormatError, match=r"platform\.kind='metal'"):
        runtime.load(broken_folder)


@pytest.mark.parametrize("version", ["0.0.9", "0.2.0", "1.0", "0.1.99", "next", ""])
def test_bundle_of_a_tvm_ffi_that_does_not_fit_is_refused(broken_folder, version):
    edit(broken_folder, lambda manifest: manifest.update(tvm_ffi=version))
    with pytest.raises(errors.LibraryError, match=r"failed to load bundle with tvm-ffi"):
        runtime.load(broken_folder)


def test_bundle_of_another_tvm_than_the_loaded_one_is_refused(bundle, broken_folder):
    edit(broken_folder, lambda manifest: manifest.update(tvm="0.99.0"))
    with pytest.raises(errors.LibraryError, match="already holds the runtime library of TVM 0"):
        runtime.load(broken_folder)


def test_missing_runtime_library_is_refused(broken_folder):
    (broken_folder / "libtvm_runtime.so").unlink()
    with pytest.raises(errors.LibraryError, match=r"libtvm_runtime\.so: the file is missing"):
        runtime.load(broken_folder)


def test_bundle_without_a_runtime_library_is_refused(broken_folder):
    edit(broken_folder, lambda manifest: manifest.update(runtime=None))
    rule = "it holds no runtime library of TVM: .* C and C.. programs that bring their own; .*--runtime PATH"
    with pytest.raises(errors.LibraryError, match=rule):
        runtime.load(broken_folder)


def test_modified_runtime_library_is_refused(broken_folder):
    flip_last_byte(broken_folder / "libtvm_runtime.so")
    with pytest.raises(errors.LibraryError, match="its SHA-256 is"):
        runtime.load(broken_folder)


def flip_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def library_of(folder):
    return next(path for path in folder.glob("n1_x4x5x6x3*.so"))


def test_missing_library_is_refused(broken_folder):
    library_of(broken_folder).unlink()
    with pytest.raises(errors.LibraryError, match="the file is missing; copy or build"):
        runtime.load(broken_folder)


def test_folder_in_place_of_a_library_is_refused(broken_folder):
    library = library_of(broken_folder)
    library.unlink()
    library.mkdir()
    with pytest.raises(errors.LibraryError, match="the file is missing"):
        runtime.load(broken_folder)


def test_truncated_library_is_refused(broken_folder):
    library = library_of(broken_folder)
    library.write_bytes(library.read_bytes()[:-100])
    with pytest.raises(errors.LibraryError, match=r"it has \d+ bytes and the manifest says \d+"):
        runtime.load(broken_folder)


def test_modified_library_is_refused(broken_folder):
    flip_last_byte(library_of(broken_folder))
    bundle = runtime.load(broken_folder)
    with pytest.raises(errors.LibraryError, match="its SHA-256 is"):
        bundle.operator("test/plain", filters_of(bundle, "test/plain"))


def test_library_that_vanished_after_loading_is_refused(broken_folder):
    bundle = runtime.load(broken_folder)
    library_of(broken_folder).unlink()
    with pytest.raises(errors.LibraryError, match="the file is missing"):
        bundle.operator("test/plain", filters_of(bundle, "test/plain"))


def rewrite_library(folder, content):
    """Put other content under a library's name, with a manifest that vouches for it."""
    library = library_of(folder)
    library.unlink()  # a new file: the old one may be in use
    library.write_bytes(content)
    entry = LibraryFile.of(library)

    def change(manifest):
        manifest["levels"][0]["kernels"][0]["library"].update(
            sha256=entry.sha256, bytes=entry.bytes
        )

    edit(folder, change)


def for_another_cpu(content):
    header = bytearray(content)
    header[18:20] = (243).to_bytes(2, "little")  # ELF's e_machine: RISC-V
    return bytes(header)


@pytest.mark.parametrize(
    "change",
    [lambda content: b"", lambda content: b"text", lambda content: content[:64], for_another_cpu],
    ids=["empty", "text", "only a header", "another cpu"],
)
def test_library_that_the_system_cannot_load_is_refused(broken_folder, change):
    rewrite_library(broken_folder, change(library_of(broken_folder).read_bytes()))
    bundle = runtime.load(broken_folder)
    with pytest.raises(errors.LibraryError, match="the system's loader refused it"):
        bundle.operator("test/plain", filters_of(bundle, "test/plain"))


@pytest.mark.parametrize("symbol", ["run", "pack"])
def test_library_without_the_function_is_refused(broken_folder, symbol):
    edit(broken_folder, lambda manifest: manifest["layers"][0]["symbols"].update({symbol: "none"}))
    bundle = runtime.load(broken_folder)
    with pytest.raises(errors.LibraryError, match="it has no function none"):
        bundle.operator("test/plain", filters_of(bundle, "test/plain"))


@pytest.mark.parametrize("shape", [[1], [2, 2, 2, 8, 4], [2, 2, 2, 3, 8], [192]])
def test_packed_shape_that_the_library_does_not_have_is_refused(broken_folder, shape):
    edit(
        broken_folder,
        lambda manifest: manifest["levels"][0]["kernels"][0].update(packed_shape=shape),
    )
    bundle = runtime.load(broken_folder)
    with pytest.raises(errors.LibraryError, match="failed to run kernel with layer 'test/plain'"):
        bundle.operator("test/plain", filters_of(bundle, "test/plain"))


@pytest.mark.parametrize("shape", [[2**62], [2**40, 2**40], [2] * 70, [2**50]])
def test_packed_shape_beyond_all_memory_is_refused(broken_folder, shape):
    edit(
        broken_folder,
        lambda manifest: manifest["levels"][0]["kernels"][0].update(packed_shape=shape),
    )
    bundle = runtime.load(broken_folder)
    with pytest.raises(errors.FileFormatError, match="no array of this shape can be allocated"):
        bundle.operator("test/plain", filters_of(bundle, "test/plain"))


def test_library_of_another_layer_is_refused(broken_folder):
    def change(manifest):
        first, second, _ = manifest["levels"][0]["kernels"]
        first["library"] = second["library"]
        first, second, _ = manifest["layers"]
        first["symbols"] = second["symbols"]

    edit(broken_folder, change)
    bundle = runtime.load(broken_folder)
    with pytest.raises(errors.LibraryError, match="the compiled code reports"):
        op = bundle.operator("test/plain", filters_of(bundle, "test/plain"))
        op(np.zeros(op.workload.input, np.float32))


def test_operators_outlive_their_bundle(broken_folder):
    bundle = runtime.load(broken_folder)
    workload = bundle.workloads["test/plain"]
    x, filters, _ = integer_data(workload, 1)
    op = bundle.operator("test/plain", filters)
    del bundle
    np.testing.assert_array_equal(op(x), reference(workload, x, filters))


def test_two_bundles_run_side_by_side(bundle, broken_folder):
    workload = bundle.workloads["test/plain"]
    x, filters, _ = integer_data(workload, 1)
    first = bundle.operator("test/plain", filters)
    second = runtime.load(broken_folder).operator("test/plain", -filters)
    np.testing.assert_array_equal(first(x), -second(x))


def test_bundle_may_be_moved(broken_folder, tmp_path):
    moved = broken_folder.rename(tmp_path / "moved, with spaces – and ünïcode")
    bundle = runtime.load(moved)
    workload = bundle.workloads["test/plain"]
    x, filters, _ = integer_data(workload, 1)
    y = bundle.operator("test/plain", filters)(x)
    np.testing.assert_array_equal(y, reference(workload, x, filters))


def test_library_rebuilt_while_in_use_is_refused(broken_folder):
    bundle = runtime.load(broken_folder)
    op = bundle.operator("test/plain", filters_of(bundle, "test/plain"))
    content = library_of(broken_folder).read_bytes()
    rewrite_library(broken_folder, content + b"\0")
    with pytest.raises(errors.LibraryError, match="still uses the former library"):
        runtime.load(broken_folder).operator("test/plain", filters_of(bundle, "test/plain"))
    del op


def test_library_rebuilt_after_use_is_loaded(broken_folder):
    bundle = runtime.load(broken_folder)
    op = bundle.operator("test/plain", filters_of(bundle, "test/plain"))
    content = library_of(broken_folder).read_bytes()
    del op
    rewrite_library(broken_folder, content + b"\0")
    bundle = runtime.load(broken_folder)
    workload = bundle.workloads["test/plain"]
    x, filters, _ = integer_data(workload, 1)
    y = bundle.operator("test/plain", filters)(x)
    np.testing.assert_array_equal(y, reference(workload, x, filters))
