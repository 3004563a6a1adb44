"""`verify`: compares every layer of a bundle with the reference, on this machine."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from tvm_conv3dt.cli import bundles, options, output, progress
from tvm_conv3dt.errors import VerificationError, describe
from tvm_conv3dt.measure.verify import Verification, verify
from tvm_conv3dt.runtime import Bundle


@click.command("verify")
@click.argument("folder", metavar="DIR", type=options.BUNDLE)
@options.layers
@options.level
@click.option(
    "--seed",
    "seeds",
    type=click.IntRange(min=0),
    multiple=True,
    default=(0,),
    show_default=True,
    metavar="N",
    help="Of the data; may be repeated.",
)
@options.threads
@options.as_json
def command(
    folder: Path,
    layer_names: tuple[str, ...],
    level: str | None,
    seeds: tuple[int, ...],
    threads: int | None,
    as_json: bool,
) -> None:
    """Check a bundle's layers: exactly on integers, within rounding on random data.

    \b
    Example:
      tvm-conv3dt verify bundle --layer nnunet/up3
    """
    bundle, layers = bundles.load_layers(folder, layer_names, threads, level)
    results: list[tuple[str, Verification]] = []
    with progress.steps("verifying", total=len(layers)) as steps:
        for layer in layers:
            steps.begin(f"verifying {layer.name}")
            results.append(
                (layer.name, verify(layer.workload, bundles.runner(bundle, layer), seeds))
            )
    if as_json:
        output.write_json(
            {
                "level": bundle.level.device,
                "layers": [{"name": name, **found.to_dict()} for name, found in results],
            }
        )
    else:
        _table(folder, bundle, results)
    wrong = [name for name, found in results if not found.passed]
    if wrong:
        raise VerificationError(
            describe(
                "verify",
                "bundle",
                str(folder),
                f"{len(wrong)} of {len(results)} layers are not right: {', '.join(wrong)}",
                "build it again, and report it with the output of: tvm-conv3dt device",
            )
        )


def _table(folder: Path, bundle: Bundle, results: list[tuple[str, Verification]]) -> None:
    level = bundle.level.device
    rows = []
    for name, found in results:
        for check in found.checks:
            repeat = ["tvm-conv3dt", "verify", str(folder), "--layer", name, "--seed", check.seed]
            if len(bundle.manifest.levels) > 1:
                repeat += ["--level", level]
            rows.append(
                (
                    check.status,
                    name,
                    check.data,
                    f"{check.worst:.0%}",
                    check.detail or shlex.join(map(str, repeat)),
                )
            )
    output.write_table(
        ("status", "layer", "data", ">of bound", "detail, or how to repeat it"),
        rows,
        f"level {level}",
    )
