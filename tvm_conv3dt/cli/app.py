"""The group of verbs: finds a verb's module when it is used, and reports errors."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import click

from tvm_conv3dt import __version__
from tvm_conv3dt.cli import EXIT_ENVIRONMENT, EXIT_INTERRUPTED
from tvm_conv3dt.errors import Conv3dtError, file_trouble

# In the order in which a newcomer uses them; each is a module here with a `command`.
VERBS = ("demo", "device", "serve", "tune", "promote", "build", "verify", "bench", "show")


class Verbs(click.Group):
    """Click's group, with verbs imported on demand and errors turned into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the verbs, in the order of `VERBS`."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a verb's command; None where there is no such verb."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"tvm_conv3dt.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; a failure that the user can mend ends in its exit code, not a traceback."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            # The reader of our output is gone (`| head`); that is for click to end quietly.
            raise
        except (Conv3dtError, MemoryError, OSError) as error:
            if _debugging():
                raise
            message, exit_code = _told(error)
            click.echo(f"error: {message}", err=True)
            ctx.exit(exit_code)


def _told(error: Conv3dtError | MemoryError | OSError) -> tuple[str, int]:
    """Return what to say of a failure, and the exit code."""
    if isinstance(error, Conv3dtError):
        return str(error), error.exit_code
    if isinstance(error, MemoryError):
        message = f"failed to allocate memory: {error}; take smaller layers, or fewer"
        return message, EXIT_ENVIRONMENT
    return file_trouble(error), EXIT_ENVIRONMENT


def _debugging() -> bool:
    return os.environ.get("TVM_CONV3DT_DEBUG", "") not in ("", "0")


@click.command(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 1 a kernel failed, 2 usage, 3 environment, 130 stopped by Ctrl-C. "
    "TVM_CONV3DT_DEBUG=1 shows tracebacks.",
)
@click.version_option(__version__, prog_name="tvm-conv3dt")
def group() -> None:
    """tf.nn.conv3d_transpose, compiled: tune, build, verify and time it.

    \b
    Example, the whole way on three real layers:
      tvm-conv3dt demo
    """
