"""The group of verbs: help, exit codes, errors without tracebacks."""

import pytest
from click.testing import CliRunner

from tvm_conv3dt import errors
from tvm_conv3dt.cli import app, show

RUNNER = CliRunner()


@pytest.mark.parametrize("verb", app.VERBS)
def test_help_of_every_verb_has_an_example(verb):
    result = RUNNER.invoke(app.group, [verb, "--help"])
    assert result.exit_code == 0
    assert f"tvm-conv3dt {verb}" in result.stdout.split("Example", 1)[1].split("Options")[0]


@pytest.mark.parametrize("verb", app.VERBS)
def test_help_of_the_group_lists_every_verb(verb):
    result = RUNNER.invoke(app.group, ["--help"])
    assert f"\n  {verb} " in result.stdout


@pytest.mark.parametrize("arguments", [["frobnicate"], ["--frobnicate"], ["show"], ["build"]])
def test_wrong_usage_exits_with_2(arguments):
    result = RUNNER.invoke(app.group, arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


def failing_show(monkeypatch, error):
    def fail(what, as_json):
        raise error

    monkeypatch.setattr(show.command, "callback", fail)
    return RUNNER.invoke(app.group, ["show", "suite"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.VerificationError("failed to verify"), 1),
        (errors.DeviceError("failed to find"), 2),
        (errors.LibraryError("failed to load"), 3),
        (PermissionError(13, "Permission denied", "bundle"), 3),
    ],
)
def test_error_becomes_one_line_and_its_exit_code(monkeypatch, error, code):
    result = failing_show(monkeypatch, error)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("error: failed to ")
    assert result.stderr.count("\n") == 1


def test_debugging_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("TVM_CONV3DT_DEBUG", "1")
    result = failing_show(monkeypatch, errors.LibraryError("failed to load"))
    assert isinstance(result.exception, errors.LibraryError)


def test_a_defect_of_our_own_is_not_hidden(monkeypatch):
    result = failing_show(monkeypatch, AssertionError("a defect"))
    assert isinstance(result.exception, AssertionError)


def test_interrupt_is_one_line_and_130(monkeypatch):
    result = failing_show(monkeypatch, KeyboardInterrupt())
    assert result.exit_code == 130
    assert result.stderr == "stopped\n"


def test_lack_of_memory_is_told_in_a_line(monkeypatch):
    result = failing_show(monkeypatch, MemoryError("Unable to allocate 8.00 TiB"))
    assert result.exit_code == 3
    assert result.stderr == (
        "error: failed to allocate memory: Unable to allocate 8.00 TiB; take smaller layers, or fewer\n"
    )
