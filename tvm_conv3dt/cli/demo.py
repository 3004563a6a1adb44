"""`demo`: the whole way on a few real layers, ending in a table and a picture."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import click

from tvm_conv3dt import workload_set
from tvm_conv3dt.cli import machine_peer, options, output, progress, without_compiler
from tvm_conv3dt.cli.tune import Reporter
from tvm_conv3dt.files import write_json
from tvm_conv3dt.measure import picture, report

# Per layer: more than the time allows, so that the time decides.
TRIALS = 256

# How long each layer is timed in the end.
SECONDS = 3.0


@click.command("demo")
@click.option(
    "-o",
    "--output",
    "folder",
    type=options.FOLDER,
    default=Path("demo"),
    show_default=True,
    metavar="DIR",
    help="Folder for logs, schedules, bundles and the picture; a used one is continued.",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=45.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to tune, all layers together.",
)
@click.option(
    "--workloads",
    "workload_name",
    default="demo",
    show_default=True,
    metavar="SET|FILE|ID",
    help="What to tune instead.",
)
@options.as_json
def command(folder: Path, time_limit: float, workload_name: str, as_json: bool) -> None:
    """Tune, promote, build, load without the compiler, verify and time three real layers.

    \b
    Example:
      tvm-conv3dt demo --time-limit 300
    """
    named = workload_set.resolve(workload_name)
    device = options.resolve_device("host")
    from tvm_conv3dt.compiler.bundle_writer import build_bundle
    from tvm_conv3dt.compiler.tuning import tune

    output.remark(f"{len(named)} layers for {device.name}, {device.cores} threads, in {folder}")
    bundles = {"untuned": folder / "untuned", "tuned": folder / "tuned"}
    schedules = folder / "schedules"

    output.remark("1/4 building the untuned bundle")
    build_bundle(named, [device], bundles["untuned"], schedules=[], allow_untuned=True)

    output.remark(f"2/4 tuning for {time_limit:g} seconds, then promoting what verifies")
    with progress.steps("tuning", total=TRIALS * len(named)) as steps:
        tune(
            named,
            device,
            trials=TRIALS,
            time_limit=time_limit,
            logs=folder / "tuning_logs",
            schedules=schedules,
            on_progress=Reporter(steps, time_limit),
        )

    output.remark("3/4 building the tuned bundle")
    build_bundle(named, [device], bundles["tuned"], schedules=[schedules])

    output.remark("4/4 in a process without the compiler: loading, verifying exactly, timing")
    rows, ceilings = without_compiler.measure(bundles, SECONDS)
    # Their kernels need the compiler, which that process has not.
    halves = any(each.workload.product_dtype == "bfloat16" for each in named)
    ceilings = replace(
        ceilings,
        fma_gflops=machine_peer.peak_gflops(device.cores),
        bfloat16_gflops=machine_peer.matrix_peak_gflops(device.cores) if halves else None,
    )

    figures = report.to_dict(rows, ceilings)
    write_json(folder / "demo.json", {"schema": 1, **figures})
    if find_spec("matplotlib") is None:
        output.remark('no picture: it needs pip install "tvm-conv3dt[plot]"')
    else:
        picture.draw(folder / "demo.png", rows, ceilings, f"tvm_conv3dt demo on {device.name}")
        output.remark(f"wrote {folder / 'demo.png'}")
    if as_json:
        output.write_json(figures)
    else:
        output.stdout().print(
            report.table(rows, ceilings, "All layers equal the reference exactly")
        )
