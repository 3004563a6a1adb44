"""The program that bundles carry: its verbs, and its exit codes."""

import shutil

import pytest

from tvm_conv3dt.cli import board


def test_bundle_is_shown(bundle, capsys):
    assert board.main(bundle, ["show"]) == 0
    shown = capsys.readouterr().out
    assert "made by tvm_conv3dt 0.1.0, tvm " in shown
    assert "in use: " in shown
    assert "small/up: n1_x3x4x5x6" in shown
    assert shown.endswith(", default\n")


def test_every_layer_is_verified(bundle, capsys):
    assert board.main(bundle, ["verify"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["PASSED", "small/up"], ["PASSED", "small/odd"]]


def test_layers_that_are_named_are_taken(bundle, capsys):
    words = ["--layer", "small/odd", "--layer", "small/up"]
    assert board.main(bundle, ["verify", *words]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == words[1::2]


def test_level_that_is_named_is_taken(levels_bundle, levels, capsys):
    assert board.main(levels_bundle, ["verify", "--layer", "small/up", "--level", levels[1]]) == 0
    assert capsys.readouterr().out == f"PASSED  small/up on {levels[1]}\n"


def test_another_bundle_may_be_named(bundle, tmp_path, capsys):
    assert board.main(tmp_path, ["show", str(bundle)]) == 0
    assert "small/odd" in capsys.readouterr().out


def test_wrong_layer_ends_with_1(bundle, monkeypatch, capsys):
    from tvm_conv3dt.runtime import Operator

    monkeypatch.setattr(Operator, "__call__", lambda self, x, out: out.fill(0))
    assert board.main(bundle, ["verify", "--layer", "small/up"]) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("FAILED  small/up on ")
    assert len(shown.split()) > 4  # what is wrong, and where


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        (["--layer", "none"], 2, "holds small/up, small/odd"),
        (["--level", "none"], 2, "failed to load bundle with level 'none'"),
        (["--threads", "0"], 2, "failed to set threads with count=0"),
        (["missing"], 3, "it has no manifest.json"),
    ],
)
def test_failure_is_one_line_and_an_exit_code(bundle, capsys, words, exit_code, message):
    assert board.main(bundle, ["verify", *words]) == exit_code
    told = capsys.readouterr().err
    assert told.startswith("error: failed to ")
    assert message in told
    assert told.count("\n") == 1


def test_modified_library_ends_with_3(bundle, tmp_path, capsys):
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    for path in folder.glob("n1_*.so"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    assert board.main(folder, ["verify"]) == 3
    assert "its SHA-256 is " in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["tune"], ["verify", "--threads", "two"]])
def test_wrong_usage_ends_with_2(bundle, words):
    with pytest.raises(SystemExit) as caught:
        board.main(bundle, words)
    assert caught.value.code == 2


def test_lack_of_memory_is_told_in_a_line(bundle, monkeypatch, capsys):
    def fail(arguments):
        raise MemoryError("no room")

    monkeypatch.setattr(board, "_verify", fail)
    assert board.main(bundle, ["verify"]) == 3
    assert capsys.readouterr().err == (
        "error: failed to allocate memory: no room; take one layer, with --layer\n"
    )
