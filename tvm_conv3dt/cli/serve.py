"""`serve`: makes this machine a board of a fleet, for others to tune on."""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version

import click

from tvm_conv3dt.cli import output, runner


@click.command("serve")
@click.option(
    "--tracker",
    callback=runner.address,
    required=True,
    metavar="HOST:PORT",
    help="Where the tracker listens; it may come and go.",
)
@click.option(
    "--key",
    required=True,
    metavar="NAME",
    help="What boards of this kind are asked for by, such as the device's name.",
)
@click.option(
    "--host",
    default="0.0.0.0",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen at.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=9090,
    show_default=True,
    metavar="N",
    help="Port to listen at, or one of the hundred after it.",
)
@click.option(
    "--address",
    metavar="HOST",
    help="Where others reach this machine, if not where the tracker sees it.",
)
def command(tracker: tuple[str, int], key: str, host: str, port: int, address: str | None) -> None:
    """Let others run code on this machine, as a board that they tune for: docs/boards.md.

    There is no authentication: whoever reaches the port can do on this machine what you can. Only in a network that you
    trust.

    \b
    Example:
      tvm-conv3dt serve --tracker workstation.local:9190 --key raspberry-pi-4
    """
    runner.need_tvm("serve")
    # A board runs code and compiles none: the compiler's 260 MB are left where they are. Read when tvm is imported.
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
    # tvm-ffi imports PyTorch where it is installed: a few hundred MB of a small memory.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    from tvm_conv3dt.compiler.fleet.server import serve

    output.remark(f"serving as {key} for {tracker[0]}:{tracker[1]}, with TVM {_tvm()}")
    serve(tracker, key, host, port, address)


def _tvm() -> str:
    try:
        return version("apache-tvm")
    except PackageNotFoundError:
        return "of its own build"
