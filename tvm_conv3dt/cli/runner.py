"""Options that say where candidates are measured: on this machine, or on a fleet of boards."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from tvm_conv3dt.errors import CompilerMissingError, describe

if TYPE_CHECKING:
    from tvm_conv3dt.compiler.fleet.recruiter import FleetSettings


def address(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[str, int] | None:
    """Return host and port of ``HOST:PORT``, where an IPv6 address stands in brackets: a callback of click's."""
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        rule = f"{value!r} is not HOST:PORT, as in workstation.local:9190"
        raise click.BadParameter(rule, ctx, param)
    return host, int(port)


tracker = click.option(
    "--tracker", callback=address, metavar="HOST:PORT", help="Where the boards' tracker listens."
)
_RUNNER = (
    click.option(
        "--runner",
        type=click.Choice(("local", "rpc")),
        default="local",
        show_default=True,
        help="Measure on this machine, or on boards through a tracker: docs/boards.md.",
    ),
    tracker,
    click.option(
        "--key", metavar="NAME", help="What the tracker knows the boards by: one key, one kind."
    ),
    click.option(
        "--board-timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=120.0,
        show_default=True,
        metavar="SECONDS",
        help="How long a board may take over one candidate before it is given to another.",
    ),
    click.option(
        "--wait",
        type=click.FloatRange(min=0),
        default=120.0,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait where there is no board, or no tracker.",
    ),
)
_OF_A_FLEET = ("tracker", "key", "board_timeout", "wait")


def runner(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `settings` to a command."""
    for option in reversed(_RUNNER):
        command = option(command)
    return command


def settings(
    runner: str, tracker: tuple[str, int] | None, key: str | None, board_timeout: float, wait: float
) -> FleetSettings | None:
    """Return the fleet that the options say; None for this machine.

    Raises
    ------
    click.UsageError
        If options are missing, or are for the other runner.
    """
    if runner == "local":
        context = click.get_current_context()
        for name in _OF_A_FLEET:
            if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
                option = name.replace("_", "-")
                raise click.UsageError(f"--{option} is for boards: give --runner rpc too")
        return None
    if tracker is None or not key:
        raise click.UsageError("--runner rpc needs --tracker HOST:PORT and --key NAME")
    from tvm_conv3dt.compiler.fleet.recruiter import FleetSettings
    from tvm_conv3dt.compiler.fleet.tracker import Address

    return FleetSettings(Address(*tracker), key, board_timeout, wait)


def need_tvm(verb: str) -> None:
    """Refuse to go on where TVM is not installed.

    Raises
    ------
    CompilerMissingError
        If it is missing.
    """
    if find_spec("tvm") is None:
        mend = 'pip install "tvm-conv3dt[board]" on a board, "tvm-conv3dt[fleet]" elsewhere'
        rule = "this needs Apache TVM"
        raise CompilerMissingError(describe(verb, "boards", "the base install", rule, mend))
