"""The program that a bundle can carry, for machines with NumPy and tvm-ffi alone: shows, verifies and times the bundle.

`tvm_conv3dt.compiler.wrapper` puts it, and what it needs, into ``conv3dt.pyz``. The standard library's argparse, since click
is not there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_conv3dt import __version__
from tvm_conv3dt.cli import EXIT_ENVIRONMENT, EXIT_INTERRUPTED
from tvm_conv3dt.errors import Conv3dtError, file_trouble

if TYPE_CHECKING:
    from tvm_conv3dt.manifest import Layer
    from tvm_conv3dt.runtime import Bundle

__all__ = ["main"]


def main(home: Path, words: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 0 ok, 1 a kernel failed, 3 the environment, 130 Ctrl-C; wrong usage exits with 2.

    Parameters
    ----------
    home : Path
        The bundle that it lies in.
    words : sequence of str, optional
        The arguments; by default those of the process.
    """
    arguments = _parser(home).parse_args(words)
    try:
        right: bool = arguments.work(arguments)
    except Conv3dtError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except MemoryError as error:
        sys.stderr.write(
            f"error: failed to allocate memory: {error}; take one layer, with --layer\n"
        )
        return EXIT_ENVIRONMENT
    except OSError as error:
        sys.stderr.write(f"error: {file_trouble(error)}\n")
        return EXIT_ENVIRONMENT
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return EXIT_INTERRUPTED
    return 0 if right else 1


def _parser(home: Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="conv3dt.pyz",
        description="Shows, verifies or times the bundle that this file lies in.",
        epilog="From Python: sys.path.insert(0, 'BUNDLE/conv3dt.pyz'), then import tvm_conv3dt. "
        "Exit codes: 0 ok, 1 a kernel failed, 2 usage, 3 environment, 130 stopped by Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=f"tvm_conv3dt {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    works: tuple[tuple[str, Callable[[argparse.Namespace], bool], str], ...] = (
        ("show", _show, "what the bundle holds, and which level runs here"),
        ("verify", _verify, "compare every layer with a NumPy reference, exactly"),
        ("time", _time, "milliseconds of every layer"),
    )
    for name, work, text in works:
        verb = verbs.add_parser(name, help=text, description=text)
        verb.add_argument("bundle", nargs="?", type=Path, default=home, help="another bundle")
        verb.add_argument("--level", metavar="NAME", help="another level than the best one")
        verb.add_argument("--layer", metavar="NAME", action="append", help="may be repeated")
        verb.add_argument("--threads", type=int, metavar="N")
        verb.set_defaults(work=work)
    return parser


def _load(arguments: argparse.Namespace) -> tuple[Bundle, list[Layer]]:
    from tvm_conv3dt import runtime

    if arguments.threads is not None:
        runtime.set_num_threads(arguments.threads)
    bundle = runtime.load(arguments.bundle, level=arguments.level)
    return bundle, [bundle.layer(name) for name in arguments.layer or bundle.workloads]


def _show(arguments: argparse.Namespace) -> bool:
    bundle, layers = _load(arguments)
    manifest = bundle.manifest
    print(f"made by tvm_conv3dt {manifest.package}, tvm {manifest.tvm}, tvm-ffi {manifest.tvm_ffi}")
    levels = ", ".join(level.device for level in manifest.levels)
    print(f"levels {levels}; in use: {bundle.level.device}")
    for layer in layers:
        print(f"{layer.name}: {layer.id}, {bundle.kernel(layer.name).schedule.source}")
    return True


def _verify(arguments: argparse.Namespace) -> bool:
    from tvm_conv3dt.measure.verify import verify

    bundle, layers = _load(arguments)
    right = True
    for layer in layers:

        def run(
            x: object, filters: object, bias: object, out: object, name: str = layer.name
        ) -> object:
            return bundle.operator(name, filters, bias)(x, out=out)

        found = verify(layer.workload, run)
        right = right and found.passed
        detail = next((check.detail for check in found.checks if check.detail), "")
        print(f"{found.status}  {layer.name} on {bundle.level.device}  {detail}".rstrip())
    return right


def _time(arguments: argparse.Namespace) -> bool:
    from tvm_conv3dt import runtime
    from tvm_conv3dt.measure.timing import interleave
    from tvm_conv3dt.reference import random_data

    bundle, layers = _load(arguments)
    for layer in layers:
        x, filters, bias = random_data(layer.workload, seed=0)
        op = bundle.operator(layer.name, filters, bias)
        x, out = op.upload(x), op.empty()

        def call(op: runtime.Operator = op, x: object = x, out: object = out) -> None:
            op(x, out)
            op.synchronize()

        timing = interleave({"": call}, seconds=1.0)[""]
        print(
            f"{layer.name} on {bundle.level.device}: {timing.median * 1e3:.3f} ms "
            f"with {runtime.get_num_threads()} threads"
        )
    return True
