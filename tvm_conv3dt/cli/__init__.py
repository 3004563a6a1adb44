"""The command line, `tvm-conv3dt`: one module per verb, the group in `app`."""

from __future__ import annotations

import io
import sys
from importlib.util import find_spec

# What the command line needs beyond the base install.
_NEEDED = ("click", "rich")

EXIT_ENVIRONMENT = 3
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit with its status."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"error: failed to start tvm-conv3dt without {' and '.join(missing)}: the command line "
            'is an extra of the package; pip install "tvm-conv3dt[cli]", or "tvm-conv3dt[compiler]" '
            "to tune and build as well\n"
        )
        sys.exit(EXIT_ENVIRONMENT)
    for stream in (sys.stdout, sys.stderr):
        # Names of files may have what the terminal's encoding has not.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        from tvm_conv3dt.cli.app import group

        group.main(prog_name="tvm-conv3dt")
    except KeyboardInterrupt:
        # Ctrl-C while modules are still being imported; later ones are handled by the group.
        sys.stderr.write("stopped\n")
        sys.exit(EXIT_INTERRUPTED)
