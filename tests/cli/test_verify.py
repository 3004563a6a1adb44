"""`verify`."""

import json
import shutil

import pytest

from tvm_conv3dt import cpu
from tvm_conv3dt.cli import bundles


def test_right_layers_pass(invoke, bundle):
    result = invoke("verify", bundle, "--json")
    assert result.exit_code == 0, result.output
    layers = json.loads(result.stdout)["layers"]
    assert [layer["name"] for layer in layers] == ["small/up", "small/odd"]
    assert {check["status"] for layer in layers for check in layer["checks"]} == {"PASSED"}


def test_each_line_says_how_to_repeat_it(invoke, bundle):
    result = invoke("verify", bundle, "--layer", "small/odd", "--seed", 3)
    lines = [line for line in result.stdout.splitlines() if "PASSED" in line]
    assert [line.split()[2] for line in lines] == ["integers", "random"]
    for line in lines:
        assert f"tvm-conv3dt verify {bundle} --layer small/odd --seed 3" in line


def test_level_is_the_one_that_is_named(invoke, levels_bundle, levels):
    result = invoke("verify", levels_bundle, "--level", levels[1], "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["level"] == levels[1]


def test_table_names_the_level_and_how_to_repeat_it(invoke, levels_bundle, levels):
    result = invoke("verify", levels_bundle, "--layer", "small/up", "--level", levels[1])
    first, *lines = result.stdout.splitlines()
    assert first.strip() == f"level {levels[1]}"
    passed = [line for line in lines if "PASSED" in line]
    assert len(passed) == 2
    assert all(f"--seed 0 --level {levels[1]}" in line for line in passed)


def test_level_that_does_not_run_here_is_refused(invoke, levels_bundle, levels, monkeypatch):
    monkeypatch.setattr(cpu, "features", frozenset)
    result = invoke("verify", levels_bundle, "--level", levels[1])
    assert result.exit_code == 3
    assert f"its code for {levels[1]} uses" in result.stderr


@pytest.mark.parametrize("verb", ["verify", "bench"])
def test_level_that_the_bundle_lacks_is_wrong_usage(invoke, levels_bundle, levels, verb):
    result = invoke(verb, levels_bundle, "--level", "abacus")
    assert result.exit_code == 2
    assert f"level 'abacus': it has {levels[0]}, {levels[1]}" in result.stderr


def test_wrong_layer_fails_with_1(invoke, bundle, monkeypatch):
    right = bundles.runner

    def runner(loaded, layer):
        def run(x, filters, bias, out):
            right(loaded, layer)(x, filters, bias, out)
            if layer.name == "small/up":
                out[0, 1, 2, 3, 4] += 1

        return run

    monkeypatch.setattr(bundles, "runner", runner)
    result = invoke("verify", bundle)
    assert result.exit_code == 1
    assert "1 of 2 layers are not right: small/up" in result.stderr
    assert "first at [0, 1, 2, 3, 4]" in result.stdout


def test_unknown_layer_names_those_of_the_bundle(invoke, bundle):
    result = invoke("verify", bundle, "--layer", "small/down")
    assert result.exit_code == 2
    assert "small/up, small/odd" in result.stderr


def test_folder_that_is_no_bundle_is_refused(invoke, tmp_path):
    result = invoke("verify", tmp_path)
    assert result.exit_code == 3
    assert "manifest.json" in result.stderr


@pytest.mark.parametrize("verb", ["verify", "bench"])
def test_damaged_library_is_refused(invoke, bundle, tmp_path, verb):
    damaged = tmp_path / "bundle"
    shutil.copytree(bundle, damaged)
    library = next(path for path in damaged.glob("n1_*.so"))
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 1
    library.write_bytes(content)
    result = invoke(verb, damaged)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "error: failed to load library" in result.stderr
    assert "the manifest says" in result.stderr
