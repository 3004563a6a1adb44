"""Options that several verbs share, and what their values mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tvm_conv3dt import paths
from tvm_conv3dt.cli.installed import has_compiler
from tvm_conv3dt.errors import CompilerMissingError, describe
from tvm_conv3dt.spec import DATA_FORMATS, DTYPES, PRECISIONS

if TYPE_CHECKING:
    from tvm_conv3dt.device import Device

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
BUNDLE = click.Path(file_okay=False, path_type=Path)

device = click.option(
    "--device",
    "device_name",
    default="host",
    show_default=True,
    metavar="NAME",
    help="Device to compile for: host, cuda (the first GPU of this machine), or one that "
    "`tvm-conv3dt device --list` names.",
)
devices = click.option(
    "--device",
    "device_names",
    multiple=True,
    default=("host",),
    show_default=True,
    metavar="NAME",
    help="Device to compile for; repeated, each becomes a level, of which loading takes the most "
    "demanding one that runs. host, cuda (the first GPU of this machine), or one that "
    "`tvm-conv3dt device --list` names.",
)
level = click.option(
    "--level",
    metavar="NAME",
    help="The level of the bundle to run, by its device's name; the most demanding one that runs "
    "where not given.",
)
workloads = click.option(
    "--workloads",
    "workload_names",
    multiple=True,
    required=True,
    metavar="SET|FILE|ID ...",
    help="Workload sets, TOML files, short names or ids; several may follow.",
)
_data_format = click.option(
    "--data-format",
    type=click.Choice(DATA_FORMATS),
    help="Recast the workloads to arrays of this format.",
)
_dtype = click.option(
    "--dtype",
    type=click.Choice(tuple(DTYPES)),
    help="Recast the workloads to arrays of this type.",
)
_precision = click.option(
    "--precision",
    type=click.Choice(tuple(PRECISIONS)),
    help="Recast the workloads so that kernels may compute in this type: bfloat16 for float32 arrays, float16 for float16 ones; "
    "or, by float32, so that they do so tap by tap.",
)


def recast(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that let all workloads have another format, type or precision than their sets say."""
    return _data_format(_dtype(_precision(command)))


schedules = click.option(
    "--schedules",
    type=FOLDER,
    default=paths.user_schedules(),
    show_default=True,
    help="Your schedules: `build` reads them before the packaged ones, `tune` and `promote` write them.",
)
logs = click.option(
    "--logs",
    type=FOLDER,
    default=paths.user_logs(),
    show_default=True,
    help="Your tuning logs.",
)
layers = click.option(
    "--layer",
    "layer_names",
    multiple=True,
    metavar="NAME|ID",
    help="Only this layer of the bundle; may be repeated. All where not given.",
)
threads = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads to use; all that this process may use where not given.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")


class WorkloadsCommand(click.Command):
    """A command whose `--workloads` takes every word up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat `--workloads` before each of its words, which is what click understands."""
        repeated: list[str] = []
        inside = False
        for word in args:
            if word.startswith("-"):
                inside = word == "--workloads"
                if inside:
                    continue
            if inside:
                repeated.append("--workloads")
            repeated.append(word)
        return super().parse_args(ctx, repeated)


def resolve_device(name: str) -> Device:
    """Return the device of that name; `host` by what the compiler calls this machine, `cuda` by its first GPU.

    Raises
    ------
    DeviceError
        If the catalogue has no such device.
    PlatformError
        If there is no GPU and the name is `cuda`.
    CompilerMissingError
        If the compiler is not installed.
    """
    need_compiler()
    from tvm_conv3dt.compiler import target

    return target.resolve(name)


def need_compiler() -> None:
    """Refuse to go on where the compiler is not installed.

    Raises
    ------
    CompilerMissingError
        If the package `tvm` is missing, or what else the compiler needs.
    """
    if not has_compiler():
        verb = click.get_current_context().info_name or "run"
        raise CompilerMissingError(
            describe(
                verb,
                "workloads",
                "the base install",
                "this verb needs Apache TVM",
                'pip install "tvm-conv3dt[compiler]"',
            )
        )
