"""Writes schedules for GPUs that no GPU has seen: default points, executed on the CPU and exact, marked as untuned.

    python scripts/cuda_default_schedules.py --device cuda-sm90 --workloads suite --dtype float16

A schedule that is there and was tuned stays as it is.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from cuda_on_cpu.operators import wrong_results

from tvm_conv3dt import device as devices
from tvm_conv3dt import workload_set
from tvm_conv3dt.compiler import schedule, schedule_file


@click.command()
@click.option("--device", "names", multiple=True, required=True, help="Name of a GPU; repeatable.")
@click.option("--workloads", "sets", multiple=True, required=True, help="Set, file or id.")
@click.option("--dtype", default="float32", show_default=True)
@click.option(
    "--schedules",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT / "schedules",
    help="Folder to write to; the repository's by default.",
)
def main(names: tuple[str, ...], sets: tuple[str, ...], dtype: str, folder: Path) -> None:
    """Write the verified default points of some workloads on some GPUs."""
    failed = False
    for name in names:
        device = devices.get(name)
        for each in workload_set.resolve_all(sets, None, dtype):
            held = schedule_file.find(each.workload, device, [folder / "none", folder])
            if held is not None and held.device == name and held.source == "tuned":
                click.echo(f"{name} {each.name}: tuned already", err=True)
                continue
            its = schedule.default_schedule(each.workload, device)
            wrong = wrong_results(its, device)
            if wrong:
                failed = True
                click.echo(f"{name} {each.name}: {wrong} results differ", err=True)
                continue
            verified = {"integers": "equal to the reference, executed on a CPU"}
            schedule_file.write(replace(its, verification=verified), folder)
            click.echo(f"{name} {each.name}: {its.formulation}", err=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
