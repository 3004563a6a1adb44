"""Options that several verbs share."""

import click
import pytest
from click.testing import CliRunner

from tvm_conv3dt.cli import app, options


@click.command("probe", cls=options.WorkloadsCommand)
@options.workloads
@click.option("-o", "--output")
@click.option("--flag", is_flag=True)
def probe(workload_names, output, flag):
    click.echo(f"{' '.join(workload_names)}|{output}|{flag}")


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        ("--workloads a", "a|None|False"),
        ("--workloads a b c", "a b c|None|False"),
        ("--workloads a b -o dir", "a b|dir|False"),
        ("-o dir --workloads a b --flag", "a b|dir|True"),
        ("--workloads a --flag --workloads b c", "a b c|None|True"),
        ("--workloads=a --flag", "a|None|True"),
    ],
)
def test_workloads_takes_every_word_up_to_the_next_option(arguments, seen):
    assert CliRunner().invoke(probe, arguments.split()).stdout.strip() == seen


@pytest.mark.parametrize("arguments", ["", "--workloads", "--workloads --flag", "stray"])
def test_no_workload_is_wrong_usage(arguments):
    result = CliRunner().invoke(probe, arguments.split())
    assert result.exit_code == 2


@pytest.mark.parametrize("verb", ["tune", "promote", "build"])
def test_without_the_compiler_it_says_what_to_install(verb, monkeypatch):
    monkeypatch.setattr(options, "has_compiler", lambda: False)
    output = ["-o", "bundle"] if verb == "build" else []
    result = CliRunner().invoke(app.group, [verb, "--workloads", "nnunet/up1", *output])
    assert result.exit_code == 3
    assert result.stderr.startswith(f"error: failed to {verb} workloads with the base install")
    assert 'pip install "tvm-conv3dt[compiler]"' in result.stderr


def test_unknown_device_names_the_catalogue():
    result = CliRunner().invoke(
        app.group, ["tune", "--workloads", "nnunet/up1", "--device", "abacus"]
    )
    assert result.exit_code == 2
    assert "raspberry-pi-4" in result.stderr


@click.command("probe")
@options.recast
def recast_probe(**values):
    click.echo(" ".join(f"{name}={values[name]}" for name in sorted(values)))


def test_format_type_and_precision_are_what_workloads_are_recast_to():
    words = ["--data-format", "NCDHW", "--precision", "bfloat16"]
    said = CliRunner().invoke(recast_probe, words).stdout.strip()
    assert said == "data_format=NCDHW dtype=None precision=bfloat16"
    for precision, status in (("float16", 0), ("float32", 0), ("float64", 2)):
        assert CliRunner().invoke(recast_probe, ["--precision", precision]).exit_code == status
