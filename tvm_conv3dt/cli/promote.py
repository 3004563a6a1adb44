"""`promote`: the best of a tuning log, checked and timed again, becomes a schedule."""

from __future__ import annotations

from pathlib import Path

import click

from tvm_conv3dt import workload_set
from tvm_conv3dt.cli import options, progress


@click.command("promote", cls=options.WorkloadsCommand)
@options.device
@options.workloads
@options.logs
@options.schedules
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="Rebuild, verify and time the best N of each log.",
)
@options.as_json
def command(
    device_name: str,
    workload_names: tuple[str, ...],
    logs: Path,
    schedules: Path,
    top: int,
    as_json: bool,
) -> None:
    """Turn tuning logs into schedules: rebuild the best, verify, time again, write.

    \b
    Example:
      tvm-conv3dt promote --workloads nnunet/up3 --top 5
    """
    device = options.resolve_device(device_name)
    named = workload_set.resolve_all(workload_names)
    from tvm_conv3dt.compiler.promote import promote

    with progress.steps("promoting", total=len(named)) as steps:
        for each in named:
            steps.begin(f"promoting {each.name}")
            promote([each], device, logs=logs, schedules=schedules, top=top)
            steps.advance()
