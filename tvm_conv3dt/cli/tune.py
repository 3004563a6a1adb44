"""`tune`: searches for the fastest schedule of each workload, and promotes what verified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_conv3dt import workload_set
from tvm_conv3dt.cli import options, output, progress, runner, tables

if TYPE_CHECKING:
    from tvm_conv3dt.compiler.tuning import Progress


@click.command("tune", cls=options.WorkloadsCommand)
@options.device
@options.workloads
@options.recast
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="Candidates for each workload, those of earlier runs counted in.",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop searching after so long, all workloads together.",
)
@options.logs
@options.schedules
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Of what is drawn.",
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
    trials: int,
    time_limit: float | None,
    logs: Path,
    schedules: Path,
    seed: int,
    threads: int | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Search for the fastest schedule of each workload, small workloads first.

    What verified exactly is promoted to a schedule. A run that is stopped, by Ctrl-C or otherwise,
    loses at most the trial under way: the same command goes on from there.

    \b
    Example:
      tvm-conv3dt tune --workloads nnunet/up3 nnunet/up5 --trials 128 --time-limit 600
      tvm-conv3dt tune --workloads mynet.toml --device raspberry-pi-4 --runner rpc --tracker localhost:9190 --key pi4
    """
    fleet = runner.settings(**where)
    named = workload_set.resolve_all(workload_names, data_format, dtype, precision)
    device = options.resolve_device(device_name)
    from tvm_conv3dt.compiler.tuning import tune

    with progress.steps("tuning", total=trials * len(named)) as steps:
        promotions = tune(
            named,
            device,
            trials=trials,
            time_limit=time_limit,
            logs=logs,
            schedules=schedules,
            seed=seed,
            threads=threads,
            fleet=fleet,
            on_progress=Reporter(steps, time_limit),
            on_note=steps.remark,
        )
    if as_json:
        output.write_json(tables.promotions_json(promotions))
    else:
        tables.promotions_table(promotions)


class Reporter:
    """Turns the tuner's reports into progress: a line where something new is known."""

    def __init__(self, steps: progress.Steps, time_limit: float | None) -> None:
        self._steps = steps
        self._time_limit = time_limit
        self._best: dict[str, float] = {}

    def __call__(self, report: Progress) -> None:
        """Report one trial."""
        total = report.trials * report.count
        done: float = report.trials * report.index + report.trial
        if self._time_limit is not None:
            # Whichever ends first: the trials or the time.
            done = max(done, total * min(1.0, self._steps.elapsed() / self._time_limit))
        self._steps.done(done)
        self._steps.describe(f"{report.name} {report.trial}/{report.trials}{_best(report)}")
        improved = report.best_ms is not None and report.best_ms < self._best.get(
            report.name, float("inf")
        )
        if improved or report.failure is not None:
            self._steps.remark(
                f"{report.name:<20} {report.trial:>4}/{report.trials:<4} "
                f"{report.failure or f'{report.milliseconds:10.3f} ms'}{_best(report)}"
                f", {self._steps.left()} left"
            )
        if report.best_ms is not None:
            self._best[report.name] = report.best_ms


def _best(report: Progress) -> str:
    return "" if report.best_ms is None else f", best {report.best_ms:.3f} ms"
