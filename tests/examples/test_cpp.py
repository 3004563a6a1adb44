"""The C++ and C examples: do they build by their own CMakeLists.txt, run a bundle, and say what is wrong with one?"""

import errno
import json
import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
from sandbox import UNIT, needs_filters, needs_unit, without_tiles

pytest.importorskip("tvm")

from tvm_conv3dt import device
from tvm_conv3dt.compiler.bundle_writer import build_bundle
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

from .building import build

pytestmark = pytest.mark.slow

OK, KERNEL_FAILED, USAGE, ENVIRONMENT = range(4)
LAYERS = {
    "same": Workload.make([1, 3, 4, 5, 6], [3, 3, 3, 7, 6], [1, 6, 8, 9, 7], 2),
    "biased": Workload.make(
        [2, 3, 4, 5, 6],
        [2, 2, 2, 8, 6],
        [2, 6, 8, 10, 8],
        2,
        "VALID",
        bias=True,
        activation="leaky_relu",
    ),
    "channels first": Workload.make(
        [1, 5, 4, 3, 6], [3, 2, 3, 4, 5], [1, 4, 8, 4, 16], [1, 1, 2], "VALID", "NCDHW", [2, 1, 2]
    ),
    "explicit": Workload.make(
        [1, 4, 4, 4, 3], [3, 3, 3, 16, 3], [1, 7, 8, 8, 16], 2, (1, 1, 0), bias=True
    ),
    "tanh": Workload.make([1, 2, 3, 4, 3], [2, 2, 2, 5, 3], [1, 4, 6, 8, 5], 2, activation="tanh"),
    "precision": Workload.make(
        [1, 3, 4, 5, 6], [2, 2, 2, 8, 6], [1, 6, 8, 10, 8], 2, precision="bfloat16"
    ),
    "half sums": Workload.make(
        [1, 3, 4, 5, 6],
        [2, 2, 2, 40, 6],
        [1, 6, 8, 10, 40],
        2,
        dtype="float16",
        precision="float16",
    ),
    "half": Workload.make([1, 2, 2, 2, 3], [2, 2, 2, 4, 3], [1, 4, 4, 4, 4], 2, dtype="float16"),
}
FLOAT32 = [name for name, workload in LAYERS.items() if workload.dtype == "float32"]


def run(*command, **options):
    words = [str(word) for word in command]
    return subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=1800, **options
    )


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder of both programs, built by the system's compilers, else by the package ziglang."""
    return build(tmp_path_factory.mktemp("cpp") / "build")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """A bundle of `LAYERS`; to be read only."""
    folder = tmp_path_factory.mktemp("cpp") / "bundle"
    named = [NamedWorkload(name, workload) for name, workload in LAYERS.items()]
    build_bundle(named, [device.host()], folder, schedules=[], allow_untuned=True)
    return folder


@pytest.fixture
def broken(bundle, tmp_path):
    """A copy of the bundle, and a function that changes its manifest."""
    folder = Path(shutil.copytree(bundle, tmp_path / "bundle"))

    def change(edit):
        path = folder / "manifest.json"
        values = json.loads(path.read_text())
        edit(values)
        path.write_text(json.dumps(values))

    return folder, change


@pytest.fixture
def refused(built):
    """A function that runs the C++ example where it must fail, and returns the message."""

    def message(exit_code, *words):
        done = run(built / "run_layer", *words)
        assert (done.returncode, done.stdout) == (exit_code, ""), done.stderr
        assert done.stderr.count("\n") == 1
        return done.stderr

    return message


@pytest.mark.parametrize("layer", FLOAT32)
def test_layer_is_right(built, bundle, layer):
    done = run(built / "run_layer", bundle, layer)
    assert done.returncode == OK, done.stderr
    assert done.stdout.startswith(f"{layer} on {device.host().name}: PASSED, ")
    assert " ms with " in done.stdout


def test_number_of_threads_is_set(built, bundle):
    done = run(built / "run_layer", bundle, "same", "--threads", "1", "--calls", "3")
    assert done.returncode == OK, done.stderr
    assert done.stdout.endswith(" with 1 threads\n")


def test_layer_is_found_by_its_id(built, bundle):
    done = run(built / "run_layer", bundle, LAYERS["same"].id)
    assert done.returncode == OK, done.stderr


@pytest.mark.parametrize("options", [[], ["--runtime", "libtvm_runtime.so"]])
def test_bundle_in_the_working_directory_loads(built, bundle, options):
    done = run(built / "run_layer", ".", "same", *options, cwd=bundle)
    assert done.returncode == OK, done.stderr


def test_kernel_that_computes_something_else_is_told(broken, refused):
    folder, change = broken
    change(lambda values: values["layers"][1]["workload"].update(activation="relu", alpha=None))
    message = refused(KERNEL_FAILED, folder, "biased")
    assert "failed to verify layer biased with element " in message


def test_layer_runs_from_c(built, bundle):
    done = run(built / "run_layer_c", bundle, "biased", "1")
    assert done.returncode == OK, done.stderr
    # Ones: with k2 s2 every output is the sum over the input channels, all of them positive.
    assert done.stdout == f"biased: sum of the output {2 * 6 * 8 * 10 * 8 * 6}\n"


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        (["missing", "same"], ENVIRONMENT, "it has no manifest.json"),
        (["", "none"], USAGE, "failed to find workload with none"),
        (["", "same", "0"], USAGE, "failed to set threads with count=0"),
    ],
)
def test_failure_is_told_in_c(built, bundle, words, exit_code, message):
    folder, *rest = words
    done = run(built / "run_layer_c", bundle / folder if folder else bundle, *rest)
    assert done.returncode == exit_code
    assert message in done.stderr


def test_missing_bundle_is_told(refused, tmp_path):
    message = refused(ENVIRONMENT, tmp_path / "none", "same")
    assert f"failed to read bundle with {tmp_path / 'none'}: it has no manifest.json" in message


def test_layer_that_the_bundle_lacks_is_told(refused, bundle):
    message = refused(USAGE, bundle, "other")
    assert f"failed to find workload with other: the bundle {bundle} holds same, biased" in message


@pytest.mark.parametrize(
    "words", [[], ["one"], ["one", "two", "three"], ["a", "b", "--calls"], ["a", "b", "--no", "1"]]
)
def test_wrong_usage_is_told(refused, words):
    assert refused(USAGE, *words).startswith("error: usage: run_layer BUNDLE LAYER")


@pytest.mark.parametrize("count", ["0", "-1", "two", "1.5", ""])
def test_wrong_number_is_told(refused, bundle, count):
    message = refused(USAGE, bundle, "same", "--threads", count)
    assert "failed to read option --threads" in message


def test_dtype_that_the_example_has_no_data_of_is_told(refused, bundle):
    assert "with dtype float16" in refused(USAGE, bundle, "half")


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", '{"schema": "3"}'])
def test_damaged_manifest_is_told(broken, refused, text):
    folder, _ = broken
    (folder / "manifest.json").write_text(text, encoding="latin-1")
    message = refused(ENVIRONMENT, folder, "same")
    assert f"failed to read file with {folder / 'manifest.json'}" in message or (
        f"failed to read file {folder / 'manifest.json'} with " in message
    )


@pytest.mark.parametrize("schema", [1, 2, 4])
def test_other_schema_is_told(broken, refused, schema):
    folder, change = broken
    change(lambda values: values.update(schema=schema))
    assert f"its schema is {schema} and this program reads 3" in refused(
        ENVIRONMENT, folder, "same"
    )


def test_missing_field_is_told_with_its_place(broken, refused):
    folder, change = broken
    change(lambda values: values["layers"][2]["workload"].pop("strides"))
    message = refused(ENVIRONMENT, folder, "same")
    assert "with layers[2].workload.strides: the field is missing" in message


def test_field_of_another_type_is_told_with_its_place(broken, refused):
    folder, change = broken
    change(lambda values: values["levels"][0]["kernels"][1].update(packed_shape=[1, "2"]))
    message = refused(ENVIRONMENT, folder, "same")
    assert "with levels[0].kernels[1].packed_shape: it must be a list of integers" in message


@pytest.mark.parametrize("name", ["../kernel.so", "/lib/libc.so.6", "..", ""])
def test_library_outside_the_folder_is_told(broken, refused, name):
    folder, change = broken
    change(lambda values: values["runtime"].update(file=name))
    assert "it must name a file in the bundle's folder" in refused(ENVIRONMENT, folder, "same")


@pytest.mark.parametrize(
    ("field", "value"), [("arch", "riscv64"), ("os", "windows"), ("kind", "cuda")]
)
def test_other_platform_is_told(broken, refused, field, value):
    folder, change = broken
    change(lambda values: values["platform"].update({field: value}))
    message = refused(ENVIRONMENT, folder, "same")
    assert "it was built for " in message
    assert value in message.split("and this program")[0]


def test_missing_cpu_feature_is_told(broken, refused):
    folder, change = broken
    change(lambda values: values["levels"][0].update(cpu_features=["future1", "future2"]))
    message = refused(ENVIRONMENT, folder, "same")
    assert "uses future1, future2, which this machine does not have" in message


def test_level_that_runs_is_taken(built, broken):
    folder, change = broken

    def demanding(values):
        first = json.loads(json.dumps(values["levels"][0]))
        values["levels"].insert(0, first | {"device": "future", "cpu_features": ["future"]})

    change(demanding)
    done = run(built / "run_layer", folder, "same")
    assert done.returncode == OK, done.stderr
    assert done.stdout.startswith(f"same on {device.host().name}: PASSED")


@pytest.fixture(scope="session")
def unit_bundle(tmp_path_factory):
    """A bundle of a level for the matrix unit and one without it; to be read only."""
    folder = tmp_path_factory.mktemp("unit") / "bundle"
    named = [NamedWorkload("same", LAYERS["same"])]
    levels = [UNIT, device.get("x86-64-v4")]
    build_bundle(named, levels, folder, schedules=[], allow_untuned=True)
    return folder


@needs_unit
def test_level_for_the_matrix_unit_is_taken(built, unit_bundle):
    done = run(built / "run_layer", unit_bundle, "same")
    assert done.returncode == OK, done.stderr
    assert done.stdout.startswith(f"same on {UNIT.name}: PASSED")


@needs_unit
@needs_filters
@pytest.mark.parametrize("answer", [errno.EPERM, 0])
def test_level_without_the_unit_is_taken_where_the_kernel_refuses(built, unit_bundle, answer):
    refused = partial(without_tiles, answer)
    done = run(built / "run_layer", unit_bundle, "same", preexec_fn=refused)
    assert done.returncode == OK, done.stderr
    assert done.stdout.startswith("same on x86-64-v4: PASSED")


@needs_unit
@needs_filters
def test_refusal_is_told_where_there_is_no_other_level(built, unit_bundle, tmp_path):
    folder = Path(shutil.copytree(unit_bundle, tmp_path / "bundle"))
    values = json.loads((folder / "manifest.json").read_text())
    del values["levels"][1]
    (folder / "manifest.json").write_text(json.dumps(values))
    refused = partial(without_tiles, errno.EPERM)
    done = run(built / "run_layer", folder, "same", preexec_fn=refused)
    assert (done.returncode, done.stdout) == (ENVIRONMENT, "")
    reason = "uses amx_tile (the kernel refuses its registers: Operation not permitted)"
    assert reason in done.stderr


@pytest.mark.parametrize("version", ["0.0.9", "0.1.99", "0.2.0", "1.1.0", "next"])
def test_tvm_ffi_that_does_not_fit_is_told(broken, refused, version):
    folder, change = broken
    change(lambda values: values.update(tvm_ffi=version))
    message = refused(ENVIRONMENT, folder, "same")
    assert f"failed to load bundle with tvm-ffi {version}: this is tvm-ffi 0.1." in message


def test_missing_library_is_told(broken, refused):
    folder, _ = broken
    (folder / "libtvm_runtime.so").unlink()
    message = refused(ENVIRONMENT, folder, "same")
    assert "libtvm_runtime.so: No such file or directory; copy or build the bundle" in message


def test_truncated_library_is_told(broken, refused):
    folder, _ = broken
    (path,) = folder.glob(f"{LAYERS['same'].id}.*.so")
    size = path.stat().st_size
    os.truncate(path, size - 1)
    message = refused(ENVIRONMENT, folder, "same")
    assert f"it has {size - 1} bytes and the manifest says {size}" in message


@pytest.mark.parametrize("which", ["libtvm_runtime.so", f"{LAYERS['same'].id}.*.so"])
def test_library_that_does_not_load_is_told(broken, refused, which):
    folder, _ = broken
    (path,) = folder.glob(which)
    path.write_bytes(bytes(path.stat().st_size))
    assert f"failed to load library with {path}: " in refused(ENVIRONMENT, folder, "same")


def test_library_without_the_function_is_told(broken, refused):
    folder, change = broken
    change(lambda values: values["layers"][0]["symbols"].update(run="other"))
    assert "with other: it has no such function" in refused(ENVIRONMENT, folder, "same")


def test_runtime_of_the_callers_is_taken(built, broken, refused):
    folder, change = broken
    change(lambda values: values.update(runtime=None))
    assert "it holds no runtime library of TVM" in refused(ENVIRONMENT, folder, "same")
    done = run(built / "run_layer", folder, "same", "--runtime", folder / "libtvm_runtime.so")
    assert done.returncode == OK, done.stderr
