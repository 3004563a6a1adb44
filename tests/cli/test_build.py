"""`build`."""

import json

import pytest

import tvm_conv3dt
from tvm_conv3dt import workload_set

pytest.importorskip("tvm")


def test_bundle_holds_what_was_asked_for(bundle, small_set):
    wanted = {each.name: each.workload for each in workload_set.read(small_set)}
    assert tvm_conv3dt.load(bundle).workloads == wanted


def test_equal_layers_keep_their_names(invoke, tmp_path):
    layer = "input = [1, 2, 3, 4, 5]\nfilters = [2, 2, 2, 3, 5]\noutput_shape = [1, 4, 6, 8, 3]\nstrides = 2\n"
    texts = [f'[[workload]]\nname = "net/{name}"\n{layer}' for name in "ab"]
    (tmp_path / "two.toml").write_text("schema = 1\n" + "".join(texts))
    arguments = ("--workloads", tmp_path / "two.toml", "-o", tmp_path / "b", "--allow-untuned")
    assert invoke("build", *arguments).exit_code == 0
    bundle = tvm_conv3dt.load(tmp_path / "b")
    assert list(bundle.workloads) == ["net/a", "net/b"]
    assert len(list((tmp_path / "b").glob("n1_*.so"))) == 1
    found = invoke("verify", tmp_path / "b", "--json")
    assert [layer["status"] for layer in json.loads(found.stdout)["layers"]] == ["PASSED"] * 2


def test_layers_are_recast(invoke, small_set, tmp_path):
    result = invoke(
        *("build", "--workloads", small_set, "--data-format", "NCDHW", "--dtype", "float16"),
        *("-o", tmp_path / "b", "--allow-untuned"),
    )
    assert result.exit_code == 0, result.output
    wanted = {n.name: n.workload.recast("NCDHW", "float16") for n in workload_set.read(small_set)}
    assert tvm_conv3dt.load(tmp_path / "b").workloads == wanted
    assert invoke("verify", tmp_path / "b").exit_code == 0


@pytest.mark.parametrize(
    ("dtype", "precision", "short"),
    [("float32", "bfloat16", "_f32pbf16_"), ("float16", "float16", "_f16pf16_")],
)
def test_layers_are_recast_to_a_precision(dtype, precision, short, invoke, small_set, tmp_path):
    result = invoke(
        *("build", "--workloads", small_set, "--dtype", dtype, "--precision", precision),
        *("-o", tmp_path / "b", "--allow-untuned"),
    )
    assert result.exit_code == 0, result.output
    named = workload_set.read(small_set)
    wanted = {each.name: each.workload.recast(dtype=dtype, precision=precision) for each in named}
    assert tvm_conv3dt.load(tmp_path / "b").workloads == wanted
    found = invoke("verify", tmp_path / "b", "--json")
    assert found.exit_code == 0, found.output
    layers = json.loads(found.stdout)["layers"]
    assert {check["data"] for layer in layers for check in layer["checks"]} == {
        "integers",
        "random",
    }
    assert all(short in layer["id"] for layer in layers)


@pytest.mark.parametrize(
    ("dtype", "precision", "proper"),
    [("float16", "bfloat16", "float32"), ("float32", "float16", "float16")],
)
def test_precision_of_other_arrays_than_its_own_is_wrong_usage(
    dtype, precision, proper, invoke, small_set, tmp_path
):
    result = invoke(
        *("build", "--workloads", small_set, "--dtype", dtype, "--precision", precision),
        *("-o", tmp_path / "b", "--allow-untuned"),
    )
    assert result.exit_code == 2
    assert f"precision='{precision}': it is for arrays of {proper}" in result.stderr
    assert not (tmp_path / "b").exists()


def test_json_is_the_manifest(invoke, small_set, tmp_path):
    result = invoke(
        "build", "--workloads", small_set, "-o", tmp_path / "b", "--allow-untuned", "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert "small/up" in result.stderr


def test_each_device_becomes_a_level(levels_bundle, levels):
    manifest = json.loads((levels_bundle / "manifest.json").read_text())
    assert [level["device"] for level in manifest["levels"]] == list(levels)


def test_progress_and_table_name_every_layer_on_every_level(invoke, small_set, levels, tmp_path):
    result = invoke(
        *("build", "--device", levels[1], "--device", levels[0], "--device", levels[1]),
        *("--workloads", small_set, "-o", tmp_path / "b", "--allow-untuned"),
    )
    assert result.exit_code == 0, result.output
    wanted = [(name, level) for level in levels for name in ("small/up", "small/odd")]
    built = [line for line in result.stderr.splitlines() if " for " in line]
    assert built == [f"{name} for {level}" for name, level in wanted]
    lines = [line.split()[:2] for line in result.stdout.splitlines()]
    assert [tuple(words) for words in lines if words and words[0].startswith("small/")] == wanted


def test_devices_of_different_architectures_are_wrong_usage(invoke, small_set, tmp_path):
    result = invoke(
        *("build", "--device", "x86-64-v3", "--device", "raspberry-pi-4"),
        *("--workloads", small_set, "-o", tmp_path / "b", "--allow-untuned"),
    )
    assert result.exit_code == 2
    assert "one operating system, architecture and kind" in result.stderr
    assert not (tmp_path / "b").exists()


def test_without_a_schedule_it_says_how_to_go_on(invoke, small_set, tmp_path):
    result = invoke(
        *("build", "--workloads", small_set, "-o", tmp_path / "b"),
        *("--schedules", tmp_path / "none"),
    )
    assert result.exit_code == 2
    assert "--allow-untuned" in result.stderr
    assert not (tmp_path / "b").exists()


def test_runtime_library_of_another_architecture_is_given(invoke, small_set, tmp_path):
    pytest.importorskip("ziglang")
    runtime = tmp_path / "mine.so"
    runtime.write_bytes(b"\x7fELF\x02" + bytes(13) + b"\xb7\x00")
    words = ("build", "--device", "raspberry-pi-4", "--workloads", small_set, "--allow-untuned")
    result = invoke(*words, "-o", tmp_path / "b", "--runtime", runtime)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "b" / "libtvm_runtime.so").read_bytes() == runtime.read_bytes()
    assert (
        json.loads((tmp_path / "b" / "manifest.json").read_text())["platform"]["arch"] == "aarch64"
    )


def test_runtime_library_that_does_not_fit_is_an_error(invoke, small_set, tmp_path):
    (tmp_path / "mine.so").write_text("none")
    words = ("build", "--workloads", small_set, "--allow-untuned", "-o", tmp_path / "b")
    result = invoke(*words, "--runtime", tmp_path / "mine.so")
    assert result.exit_code == 3
    assert "mine.so is no shared library" in result.stderr
    assert not (tmp_path / "b").exists()


def test_folder_with_something_else_is_left_alone(invoke, small_set, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result = invoke("build", "--workloads", small_set, "-o", tmp_path, "--allow-untuned")
    assert result.exit_code == 3
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
