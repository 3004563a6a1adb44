"""A whole session on a GPU machine without network: install, check, tune, verify, bench.

Beside what ``pack.py`` made (or in a checkout, with ``--no-install``):

    python3 session.py --time-limit 3600

It needs a Python alone, and writes only to one folder, ``--work``. There ``results/`` (and ``results.tar``, the same
in one file) is what to bring back: tuning logs, schedules, tables, pictures, and the log of the session. They are
written step by step: what was done stays where a session is cut off, and the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from environment import Unusable, environment_in, install, share_pytorch, unpack
from steps import Steps, Stopped, write
from verbs import Verbs

HERE = Path(__file__).resolve().parent
FAILED, ENVIRONMENT = 1, 3
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# Enough to come through every step, and done in no time.
_TINY_SET = """schema = 1
[[workload]]
name = "tiny/up"
input = [1, 3, 4, 5, 6]
filters = [2, 2, 2, 8, 6]
output_shape = [1, 6, 8, 10, 8]
strides = [2, 2, 2]
padding = "VALID"
data_format = "NDHWC"
dtype = "float32"
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the session and return its exit code."""
    options = _parser().parse_args(arguments)
    work = options.work.resolve()
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _stop)
    try:
        work.mkdir(parents=True, exist_ok=True)
        steps = Steps(work / "results", environment_in(work), work)
    except OSError as error:
        print(f"failed to write to {work}: {error}; name another folder by --work", file=sys.stderr)
        return ENVIRONMENT
    code = 0
    try:
        _session(steps, options, work)
    except Stopped as stopped:
        steps.say(f"stopped by {stopped}; the same command goes on from here")
        code = 128 + stopped.number
    except Unusable as error:
        steps.say(f"error: {error}")
        code = ENVIRONMENT
    finally:
        _ignore_signals()
        failed = [row["step"] for row in steps.rows if row["status"] not in ("ok", "skipped")]
        for line in steps.table():
            steps.say(line)
        if failed:
            steps.say(f"failed: {', '.join(failed)}")
        steps.say(f"bring back {steps.results}.tar")
        steps.write_summary()
    return code or (FAILED if failed else 0)


def _session(steps: Steps, options: argparse.Namespace, work: Path) -> None:
    content, python = HERE.parents[1], Path(sys.executable)
    if not options.no_install:
        content = work / "content"
        unpack(steps, content)
        python = install(steps, options.python, content, work / "venv")
        share_pytorch(steps, options.pytorch_python or options.python, work / "venv")
    tool: list[str | Path] = [python, "-m", "tvm_conv3dt"]
    limit = options.step_limit

    steps.run("device", [*tool, "device"], limit, "device.txt")
    if not steps.run("device as JSON", [*tool, "device", "--json"], limit, "device.json"):
        raise Unusable("tvm-conv3dt does not run here: its message is above")
    if smi := shutil.which("nvidia-smi"):
        steps.run("nvidia-smi", [smi, "-q"], limit, "nvidia-smi.txt")
    facts = json.loads((steps.results / "device.json").read_text())
    if not options.cpu and not facts["gpus"]:
        missing = "; ".join(facts["cuda_missing"])
        raise Unusable(f"there is no GPU to be used: {missing}. --cpu rehearses without")

    quick, workloads = "demo", options.workloads
    if options.cpu and workloads is None:
        quick = str(work / "tiny.toml")
        write(Path(quick), _TINY_SET)
    workloads = workloads or ([quick] if options.cpu else ["suite"])
    # Steps have a working directory of their own.
    workloads = [str(Path(each).resolve()) if Path(each).is_file() else each for each in workloads]
    verbs = Verbs(steps, tool, options, workloads, work / "bundles")
    verbs.check(quick)
    _test(steps, options, python, content)
    verbs.tune()
    built = [dtype for dtype in options.dtypes if verbs.build(dtype)]
    for dtype in built:
        verbs.verify(dtype)
    for dtype in built:
        verbs.bench(dtype, python)


def _test(steps: Steps, options: argparse.Namespace, python: Path, content: Path) -> None:
    if options.tests:
        command: list[str | Path] = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        root: list[str | Path] = ["--rootdir", content, "-c", content / "pyproject.toml"]
        tests = [content / name for name in options.tests]
        steps.run("tests", [*command, *root, *tests], options.step_limit)


def _stop(number: int, frame: object) -> None:
    del frame
    _ignore_signals()  # what is done now is to end in order
    raise Stopped(number)


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Install, check, tune, verify and bench on a GPU machine without network.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--work", type=Path, default=HERE / "work", help="folder for all that is written")
    add("--time-limit", type=_seconds, default=3600.0, help="seconds to tune, all together")
    add("--trials", type=int, default=64, help="candidates for each layer and type")
    add("--bench-seconds", type=_seconds, default=2.0, help="how long to time each layer")
    add(
        "--step-limit",
        type=_seconds,
        default=3600.0,
        help="seconds after which any other step is ended",
    )
    add("--device", default="cuda", help="what to compile for: cuda is this machine's first GPU")
    add("--workloads", nargs="+", help="what to tune; the suite where not given")
    add("--dtypes", type=_words, default=["float32", "float16"], help="types, by commas")
    add(
        "--tests",
        nargs="*",
        default=[],
        help="tests to run too, by their paths: tests/runtime/cuda",
    )
    add("--python", default=sys.executable, help="what the environment is made with")
    add("--pytorch-python", help="a Python of the same version whose PyTorch is compared with")
    add("--no-install", action="store_true", help="use the Python that runs this, as it is")
    add("--cpu", action="store_true", help="rehearse on the CPU, with a tiny layer")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("it must be above 0")
    return value


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


if __name__ == "__main__":
    sys.exit(main())
