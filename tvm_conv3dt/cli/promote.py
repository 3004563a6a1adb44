"""`promote`: the best of a tuning log, checked and timed again, becomes a schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tvm_conv3dt import workload_set
from tvm_conv3dt.cli import options, output, progress, runner, tables


@click.command("promote", cls=options.WorkloadsCommand)
@options.device
@options.workloads
@options.recast
@options.logs
@options.schedules
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="How many of the best of each log compete.",
)
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    metavar="N",
    help="Prune each log to its N fastest records afterwards.",
)
@options.threads
@runner.runner
@options.as_json
def command(
    device_name: str,
    workload_names: tuple[str, ...],
    data_format: str | None,
    dtype: str | None,
    precision: str | None,
    logs: Path,
    schedules: Path,
    top: int,
    keep: int | None,
    threads: int | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Turn tuning logs into schedules: rebuild the best, verify, time again, write.

    \b
    Example:
      tvm-conv3dt promote --workloads nnunet/up3 --top 5
    """
    fleet = runner.settings(**where)
    named = workload_set.resolve_all(workload_names, data_format, dtype, precision)
    device = options.resolve_device(device_name)
    from tvm_conv3dt.compiler.promote import promote
    from tvm_conv3dt.compiler.target import require_runnable

    if fleet is None:
        require_runnable(device)
    promotions = []
    with progress.steps("promoting", total=len(named)) as steps:
        for each in named:
            steps.begin(f"promoting {each.name}")
            promotions += promote(
                [each],
                device,
                logs=logs,
                schedules=schedules,
                top=top,
                threads=threads,
                keep=keep,
                fleet=fleet,
                on_note=steps.remark,
            )
    if as_json:
        output.write_json(tables.promotions_json(promotions))
    else:
        tables.promotions_table(promotions)
