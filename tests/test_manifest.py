"""The manifest: there and back, and each way to be damaged."""

import copy
import json
from dataclasses import replace

import pytest

from tvm_conv3dt.errors import FileFormatError
from tvm_conv3dt.gpu import KernelResources
from tvm_conv3dt.level import Kernel, Level, LibraryFile, ScheduleSummary
from tvm_conv3dt.manifest import FILE_NAME, CudaRuntime, Layer, Manifest, Platform
from tvm_conv3dt.spec import Workload

WORKLOAD = Workload.make([1, 2, 2, 2, 3], [2, 2, 2, 4, 3], [1, 4, 4, 4, 4], 2, "VALID")


NAMES = ("a/one", "a/two")


def level(device, *features):
    library = LibraryFile(f"{WORKLOAD.id}.{device}.so", "ab" * 32, 1234)
    schedule = ScheduleSummary("tuned", "phases", 0.25)
    kernels = (Kernel(name, library, (8, 1, 3, 16), "float32", 4096, schedule) for name in NAMES)
    return Level(device, device, features, tuple(kernels))


MANIFEST = Manifest(
    package="0.1.0",
    tvm="0.27.0.post1",
    tvm_ffi="0.1.14.post1",
    definition=1,
    platform=Platform("llvm", "linux", "x86_64"),
    runtime=LibraryFile("libtvm_runtime.so", "cd" * 32, 5678),
    cuda=None,
    layers=tuple(Layer(name, WORKLOAD, WORKLOAD.id, f"{WORKLOAD.id}_pack") for name in NAMES),
    levels=(level("x86-64-v3", "avx2", "fma"), level("x86-64-v2", "ssse3")),
)

RESOURCES = (
    KernelResources("run_kernel", 256, 128, 49152, 0, 0),
    KernelResources("pack", 64, 16, 0, 0, 0),
)


def gpu_level(arch):
    """A level of a GPU, of kernels with packed filters of float16."""
    made = level(f"cuda-{arch}", "avx2")
    kernels = (replace(each, packed_dtype="float16", resources=RESOURCES) for each in made.kernels)
    return replace(made, kernels=tuple(kernels), gpu_arch=arch)


CUDA = replace(
    MANIFEST,
    platform=Platform("cuda", "linux", "x86_64"),
    cuda=CudaRuntime(
        LibraryFile("libtvm_runtime_cuda.so", "ef" * 32, 9012), "libcudart.so.13", "13.0"
    ),
    levels=(gpu_level("sm_90"), gpu_level("sm_87")),
)
MANIFESTS = pytest.mark.parametrize(
    "manifest",
    [MANIFEST, CUDA, replace(MANIFEST, runtime=None)],
    ids=["llvm", "cuda", "without a runtime library"],
)


@pytest.fixture
def damaged(tmp_path):
    """A function that writes a manifest after a change and reads it."""

    def read(change, manifest=MANIFEST):
        values = copy.deepcopy(manifest.to_dict())
        change(values)
        (tmp_path / FILE_NAME).write_text(json.dumps(values))
        return Manifest.read(tmp_path)

    return read


@MANIFESTS
def test_manifest_goes_there_and_back(manifest, tmp_path):
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest


def test_manifest_of_no_layers_goes_there_and_back(damaged):
    def change(values):
        values["layers"] = []
        for each in values["levels"]:
            each["kernels"] = []

    assert damaged(change).layers == ()


def test_form_is_the_documented_one():
    values = MANIFEST.to_dict()
    assert values["schema"] == 3
    assert values["platform"] == {"kind": "llvm", "os": "linux", "arch": "x86_64"}
    assert values["layers"][0] == {
        "name": "a/one",
        "id": WORKLOAD.id,
        "workload": WORKLOAD.to_dict(),
        "symbols": {"run": WORKLOAD.id, "pack": f"{WORKLOAD.id}_pack"},
    }
    first = values["levels"][0]
    assert [first["device"], first["mcpu"]] == ["x86-64-v3", "x86-64-v3"]
    assert first["cpu_features"] == ["avx2", "fma"]
    assert (values["cuda"], first["gpu_arch"]) == (None, None)
    assert first["kernels"][0] == {
        "layer": "a/one",
        "library": {"file": f"{WORKLOAD.id}.x86-64-v3.so", "sha256": "ab" * 32, "bytes": 1234},
        "packed_shape": [8, 1, 3, 16],
        "packed_dtype": "float32",
        "workspace_bytes": 4096,
        "schedule": {"source": "tuned", "formulation": "phases", "median_ms": 0.25},
        "resources": [],
    }


def test_form_for_gpus_is_the_documented_one():
    values = CUDA.to_dict()
    assert values["platform"] == {"kind": "cuda", "os": "linux", "arch": "x86_64"}
    assert values["cuda"] == {
        "library": {"file": "libtvm_runtime_cuda.so", "sha256": "ef" * 32, "bytes": 9012},
        "cudart": "libcudart.so.13",
        "toolkit": "13.0",
    }
    first = values["levels"][0]
    assert (first["device"], first["gpu_arch"]) == ("cuda-sm_90", "sm_90")
    assert first["kernels"][0]["packed_dtype"] == "float16"
    assert first["kernels"][0]["resources"] == [
        {
            "name": "run_kernel",
            "threads": 256,
            "registers": 128,
            "shared_bytes": 49152,
            "spill_bytes": 0,
            "stack_bytes": 0,
        },
        {
            "name": "pack",
            "threads": 64,
            "registers": 16,
            "shared_bytes": 0,
            "spill_bytes": 0,
            "stack_bytes": 0,
        },
    ]


def test_what_levels_share_is_written_once():
    text = json.dumps(MANIFEST.to_dict())
    assert text.count('"workload":') == text.count('"symbols":') == len(NAMES)


def places(value, path=()):
    """Every place in a JSON value that can be removed."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from places(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if isinstance(inner, dict):
                yield from places(inner, (*path, index))


def holder(values, place):
    for step in place[:-1]:
        values = values[step]
    return values


# Fields of a workload that have a default, as in TensorFlow's call; they are then part of the id.
OPTIONAL = {"padding", "data_format", "dilations", "dtype", "bias", "activation", "alpha"}
PLACES = [
    place
    for place in places(CUDA.to_dict())
    if not ("workload" in place and place[-1] in OPTIONAL) and 1 not in place
]
# Came later than its schema: see test_manifest_schema.py.
REQUIRED = [place for place in PLACES if place != ("wrapper",)]


@pytest.mark.parametrize("place", REQUIRED, ids=lambda place: ".".join(map(str, place)))
def test_missing_field_is_refused(damaged, place):
    with pytest.raises(FileFormatError, match=rf"manifest\.json.*{place[-1]}"):
        damaged(lambda values: holder(values, place).pop(place[-1]), CUDA)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_field_of_another_type_is_refused(damaged, place):
    def change(values):
        holder(values, place)[place[-1]] = {"another": ["type"]}

    with pytest.raises(FileFormatError, match=r"manifest\.json"):
        damaged(change, CUDA)


@pytest.mark.parametrize(
    "place",
    [
        (),
        ("platform",),
        ("runtime",),
        ("cuda",),
        ("cuda", "library"),
        ("layers", 0),
        ("layers", 0, "symbols"),
        ("levels", 0),
        ("levels", 1, "kernels", 1),
        ("levels", 1, "kernels", 1, "library"),
        ("levels", 1, "kernels", 1, "schedule"),
        ("levels", 1, "kernels", 1, "resources", 1),
    ],
)
def test_unknown_field_is_refused(damaged, place):
    with pytest.raises(FileFormatError, match=r"later=1: no such field is known"):
        damaged(lambda values: holder(values, (*place, "")).update(later=1), CUDA)


@pytest.mark.parametrize("schema", [0, 1])
def test_schema_that_is_not_read_any_more_is_refused(damaged, schema):
    rule = (
        f"its schema is {schema} and this version reads 2 or 3; "
        r"make the file again, or use tvm_conv3dt '0\.1\.0' that wrote it$"
    )
    with pytest.raises(FileFormatError, match=rule):
        damaged(lambda values: values.update(schema=schema))


@pytest.mark.parametrize("schema", [4, 99])
def test_schema_from_the_future_is_refused_with_the_version_that_reads_it(damaged, schema):
    rule = (
        f"its schema is {schema} and this version reads 2 or 3; "
        r"install tvm_conv3dt '7\.1\.0' that wrote it, or a later one$"
    )
    with pytest.raises(FileFormatError, match=rule):
        damaged(lambda values: values.update(schema=schema, package="7.1.0", later={}))


def test_wrapper_goes_there_and_back(tmp_path):
    manifest = replace(MANIFEST, wrapper=LibraryFile("conv3dt.pyz", "ab" * 32, 99))
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    assert manifest.to_dict()["wrapper"] == {
        "file": "conv3dt.pyz",
        "sha256": "ab" * 32,
        "bytes": 99,
    }


LEAVING = [
    "../evil.so",
    "/lib/libc.so.6",
    "sub/kernel.so",
    "..",
    ".",
    "",
    "a\\b.so",
    "C:evil.so",
    "~/evil.so",
    "a\0b.so",
    "kernel.so\n",
    "-rf",
    ".hidden.so",
]


@pytest.mark.parametrize("name", LEAVING)
def test_runtime_outside_the_folder_is_refused(damaged, name):
    with pytest.raises(FileFormatError, match="a file in the bundle's folder"):
        damaged(lambda values: values["runtime"].update(file=name))


@pytest.mark.parametrize("name", LEAVING)
def test_cuda_runtime_outside_the_folder_is_refused(damaged, name):
    with pytest.raises(
        FileFormatError, match=r"cuda\.library\.file=.*a file in the bundle's folder"
    ):
        damaged(lambda values: values["cuda"]["library"].update(file=name), CUDA)


@pytest.mark.parametrize("name", LEAVING)
def test_library_outside_the_folder_is_refused(damaged, name):
    where = r"levels\[1\]\.kernels\[0\]\.library\.file="
    with pytest.raises(FileFormatError, match=rf"{where}.*bundle's folder"):
        damaged(lambda values: values["levels"][1]["kernels"][0]["library"].update(file=name))


@pytest.mark.parametrize("digest", ["", "ab", "AB" * 32, "zz" * 32, "ab" * 33])
def test_digest_of_another_form_is_refused(damaged, digest):
    with pytest.raises(FileFormatError, match="64 lower-case hexadecimal digits"):
        damaged(lambda values: values["runtime"].update(sha256=digest))


@pytest.mark.parametrize("symbol", ["", "1a", "a b", "a-b", "a\n", "ü"])
def test_symbol_that_is_no_identifier_is_refused(damaged, symbol):
    with pytest.raises(FileFormatError, match=r"symbols\.run=.*must be a C identifier"):
        damaged(lambda values: values["layers"][0]["symbols"].update(run=symbol))


def test_id_of_another_workload_is_refused(damaged):
    def change(values):
        values["layers"][0]["workload"]["output_shape"] = [1, 5, 4, 4, 4]

    with pytest.raises(FileFormatError, match=r"layers\[0\]\.id=.*its workload's id is"):
        damaged(change)


def test_illegal_workload_is_refused(damaged):
    def change(values):
        values["layers"][0]["workload"]["strides"] = [0, 2, 2]

    with pytest.raises(FileFormatError, match=r"layers\[0\]\.workload=.*strides"):
        damaged(change)


def test_explicit_padding_goes_there_and_back(tmp_path):
    workload = replace(WORKLOAD, output_shape=(1, 3, 4, 4, 4), padding=(1, 0, 0))
    layers = tuple(replace(each, workload=workload) for each in MANIFEST.layers)
    manifest = replace(MANIFEST, layers=layers)
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    assert manifest.to_dict()["layers"][0]["workload"]["padding"] == [1, 0, 0]


def test_precision_goes_there_and_back(tmp_path):
    workload = WORKLOAD.recast(precision="bfloat16")
    layers = tuple(replace(each, workload=workload) for each in MANIFEST.layers)
    manifest = replace(MANIFEST, layers=layers)
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    first = manifest.to_dict()["layers"][0]
    assert first["workload"]["precision"] == "bfloat16"
    assert first["id"] == WORKLOAD.id.replace("f32", "f32pbf16")


def test_precision_that_the_id_does_not_say_is_refused(damaged):
    def change(values):
        values["layers"][0]["workload"]["precision"] = "bfloat16"

    with pytest.raises(FileFormatError, match=r"layers\[0\]\.id=.*its workload's id is .*f32pbf16"):
        damaged(change)


def test_workload_without_a_precision_is_written_as_before_there_was_one():
    fields = ["input", "filters", "output_shape", "strides", "padding", "data_format"]
    fields += ["dilations", "dtype", "bias", "activation", "alpha"]
    assert list(MANIFEST.to_dict()["layers"][0]["workload"]) == fields


def test_field_of_a_workload_that_is_not_known_is_refused_by_its_name(damaged):
    # As versions before there was a precision refuse a bundle that has one.
    def change(values):
        values["layers"][0]["workload"]["rounding"] = "nearest"

    with pytest.raises(
        FileFormatError, match=r"layers\[0\]\.workload=.*rounding='nearest': the fields"
    ):
        damaged(change)


@pytest.mark.parametrize("padding", [[1, 0], [1, 0, -1], [1, 0, None], [0.0, 0, 0], 1, {}])
def test_padding_that_is_none_is_refused(damaged, padding):
    def change(values):
        values["layers"][0]["workload"]["padding"] = padding

    with pytest.raises(FileFormatError, match=r"layers\[0\]\.workload=.* with padding="):
        damaged(change)


def test_name_that_two_layers_have_is_refused(damaged):
    with pytest.raises(FileFormatError, match=r"layers\[1\]\.name='a/one'"):
        damaged(lambda values: values["layers"][1].update(name="a/one"))


def test_bundle_without_a_level_is_refused(damaged):
    with pytest.raises(FileFormatError, match=r"levels=\[\]: there must be at least one"):
        damaged(lambda values: values.update(levels=[]))


def test_device_that_two_levels_have_is_refused(damaged):
    with pytest.raises(FileFormatError, match=r"levels\[1\]\.device='x86-64-v3'"):
        damaged(lambda values: values["levels"][1].update(device="x86-64-v3"))


@pytest.mark.parametrize(
    "change",
    [list.reverse, list.pop, list.clear, lambda kernels: kernels.append(kernels[0])],
    ids=["another order", "one less", "none", "one more"],
)
def test_level_whose_kernels_are_not_those_of_the_layers_is_refused(damaged, change):
    with pytest.raises(FileFormatError, match=r"levels\[1\]\.kernels=.*one for each layer"):
        damaged(lambda values: change(values["levels"][1]["kernels"]))


def test_library_of_another_level_is_refused(damaged):
    def change(values):
        first, second = (each["kernels"][1] for each in values["levels"])
        second["library"] = first["library"]

    where = r"levels\[1\]\.kernels\[1\]\.library\.file="
    with pytest.raises(FileFormatError, match=rf"{where}.*it belongs to the level x86-64-v3"):
        damaged(change)


@pytest.mark.parametrize("kind", ["metal", "", "LLVM", "cuda "])
def test_kind_that_is_not_known_is_refused(damaged, kind):
    with pytest.raises(FileFormatError, match=r"platform\.kind=.*: it must be one of llvm, cuda"):
        damaged(lambda values: values["platform"].update(kind=kind))


def test_bundle_for_gpus_without_a_cuda_runtime_is_refused(damaged):
    with pytest.raises(FileFormatError, match=r"cuda=None: a bundle of kind 'cuda' has one"):
        damaged(lambda values: values.update(cuda=None), CUDA)


def test_bundle_for_cpus_with_a_cuda_runtime_is_refused(damaged):
    with pytest.raises(
        FileFormatError, match=r"cuda=CudaRuntime.*: a bundle of kind 'llvm' has none"
    ):
        damaged(lambda values: values.update(cuda=CUDA.to_dict()["cuda"]))


def test_level_of_a_bundle_for_gpus_without_an_architecture_is_refused(damaged):
    where = r"levels\[1\]\.gpu_arch=None"
    with pytest.raises(FileFormatError, match=rf"{where}: a bundle of kind 'cuda' has one"):
        damaged(lambda values: values["levels"][1].update(gpu_arch=None), CUDA)


def test_level_of_a_bundle_for_cpus_with_an_architecture_of_gpus_is_refused(damaged):
    where = r"levels\[1\]\.gpu_arch='sm_90'"
    with pytest.raises(FileFormatError, match=rf"{where}: a bundle of kind 'llvm' has none"):
        damaged(lambda values: values["levels"][1].update(gpu_arch="sm_90"))


def test_kernel_for_cpus_that_takes_of_a_gpu_is_refused(damaged):
    resources = CUDA.to_dict()["levels"][0]["kernels"][0]["resources"]
    where = r"levels\[0\]\.kernels\[1\]\.resources="
    with pytest.raises(FileFormatError, match=rf"{where}.*: a bundle of kind 'llvm' has none"):
        damaged(lambda values: values["levels"][0]["kernels"][1].update(resources=resources))


@pytest.mark.parametrize(
    "arch", ["", "sm_9", "sm_90a", "sm_1000", "sm_", "90", "compute_90", "sm_09"]
)
def test_architecture_of_another_form_is_refused(damaged, arch):
    with pytest.raises(FileFormatError, match=r"levels\[0\]\.gpu_arch=.*such as 'sm_90'"):
        damaged(lambda values: values["levels"][0].update(gpu_arch=arch), CUDA)


@pytest.mark.parametrize(
    "name",
    ["", "libcudart.so", "libcudart.so.", "../libcudart.so.13", "libc.so.6", "libcudart.so.13\n"],
)
def test_cuda_runtime_library_of_another_name_is_refused(damaged, name):
    with pytest.raises(FileFormatError, match=r"cuda\.cudart=.*such as 'libcudart\.so\.13'"):
        damaged(lambda values: values["cuda"].update(cudart=name), CUDA)


@pytest.mark.parametrize("version", ["", "13", "13.0.1", "V13.0", "13."])
def test_toolkit_of_another_form_is_refused(damaged, version):
    with pytest.raises(FileFormatError, match=r"cuda\.toolkit=.*such as '13\.0'"):
        damaged(lambda values: values["cuda"].update(toolkit=version), CUDA)


@pytest.mark.parametrize("dtype", ["", "int8", "float", "Float32", "complex64"])
def test_packed_dtype_that_is_not_known_is_refused(damaged, dtype):
    where = r"levels\[0\]\.kernels\[0\]\.packed_dtype="
    with pytest.raises(FileFormatError, match=rf"{where}.*: it must be one of float32, float64"):
        damaged(lambda values: values["levels"][0]["kernels"][0].update(packed_dtype=dtype))
