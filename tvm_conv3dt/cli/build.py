"""`build`: schedules become a bundle, for this machine or across."""

from __future__ import annotations

from pathlib import Path

import click

from tvm_conv3dt import workload_set
from tvm_conv3dt.cli import options, output, progress
from tvm_conv3dt.cli.tables import bundle_table
from tvm_conv3dt.paths import schedule_folders


@click.command("build", cls=options.WorkloadsCommand)
@options.devices
@options.workloads
@options.recast
@click.option(
    "-o",
    "--output",
    "folder",
    type=options.FOLDER,
    required=True,
    metavar="DIR",
    help="Folder to make; an existing bundle there is replaced.",
)
@options.schedules
@click.option(
    "--allow-untuned",
    is_flag=True,
    help="Where there is no schedule, compile the design space's default point instead of failing.",
)
@click.option(
    "--runtime",
    type=options.FILE,
    metavar="PATH",
    help="TVM's runtime library for the devices, or TVM's wheel for them; where not given the installed one, or "
    "for another architecture one that pip downloads.",
)
@click.option(
    "--with-wrapper",
    is_flag=True,
    help="Put this package's runtime into the bundle as conv3dt.pyz: a machine with NumPy and apache-tvm-ffi then "
    "needs nothing else.",
)
@options.as_json
def command(
    device_names: tuple[str, ...],
    workload_names: tuple[str, ...],
    data_format: str | None,
    dtype: str | None,
    precision: str | None,
    folder: Path,
    schedules: Path,
    allow_untuned: bool,
    runtime: Path | None,
    with_wrapper: bool,
    as_json: bool,
) -> None:
    """Build a bundle: a folder with a manifest and one shared library per workload and device.

    \b
    Examples:
      tvm-conv3dt build --device x86-64-v3 --workloads demo -o bundle --allow-untuned
      tvm-conv3dt build --device x86-64-v2 --device x86-64-v3 --device x86-64-v4 \\
        --workloads demo -o bundle --allow-untuned
      tvm-conv3dt build --device raspberry-pi-4 --workloads demo -o board --allow-untuned
    """
    named = workload_set.resolve_all(workload_names, data_format, dtype, precision, by_name=True)
    devices = list(dict.fromkeys(options.resolve_device(name) for name in device_names))
    from tvm_conv3dt.compiler.bundle_writer import build_bundle

    with progress.steps("building", total=len(named) * len(devices)) as steps:
        manifest = build_bundle(
            named,
            devices,
            folder,
            schedules=schedule_folders(schedules),
            allow_untuned=allow_untuned,
            runtime=runtime,
            with_wrapper=with_wrapper,
            on_progress=steps.begin,
        )
    if as_json:
        output.write_json(manifest.to_dict())
    else:
        bundle_table(manifest)
        output.remark(f"wrote {folder}")
