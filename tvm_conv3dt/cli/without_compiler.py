"""Checks and times bundles in a process in which the compiler cannot be imported.

`measure` starts it; ``python -m tvm_conv3dt.cli.without_compiler JOB`` is what it starts.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from tvm_conv3dt.errors import Conv3dtError, VerificationError, describe
from tvm_conv3dt.measure.ceiling import Ceilings
from tvm_conv3dt.measure.report import Row
from tvm_conv3dt.measure.timing import Timing
from tvm_conv3dt.spec import Workload


def measure(bundles: Mapping[str, Path], seconds: float) -> tuple[list[Row], Ceilings]:
    """Check every layer of several bundles exactly, then time them in turns.

    Parameters
    ----------
    bundles
        Folders, by the name that their times get; all hold the same layers.
    seconds
        How long to time each layer, about.

    Returns
    -------
    tuple of (list of Row, Ceilings)
        The times, and what the machine reached in the same process, the peak of multiply-adds aside.

    Raises
    ------
    VerificationError
        If a layer is not right, or the process fails.
    """
    folders = {name: str(path) for name, path in bundles.items()}
    job = json.dumps({"bundles": folders, "seconds": seconds})
    done = subprocess.run(
        [sys.executable, "-m", __name__, job],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise VerificationError(
            describe(
                "run",
                "bundles",
                ", ".join(folders.values()),
                f"the process without the compiler ended with {done.returncode}: see above",
            )
        )
    answer = json.loads(done.stdout)
    rows = [
        Row(
            row["name"],
            Workload.from_id(row["id"]),
            {name: Timing(**values) for name, values in row["timings"].items()},
        )
        for row in answer["rows"]
    ]
    return rows, Ceilings(**answer["ceilings"])


class NoCompiler(MetaPathFinder):
    """An import hook that refuses TVM's compiler."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse `tvm` and what is in it; leave all else to the next finder."""
        if fullname.partition(".")[0] == "tvm":
            raise ModuleNotFoundError(f"{fullname} is blocked in this process", name=fullname)
        return None


def main(arguments: Sequence[str]) -> None:
    """Do the job and write the answer to stdout, as JSON."""
    sys.meta_path.insert(0, NoCompiler())
    job = json.loads(arguments[0])
    try:
        answer = _run(job["bundles"], job["seconds"])
    except Conv3dtError as error:
        sys.exit(f"error: {error}")
    try:
        importlib.import_module("tvm")
    except ModuleNotFoundError:
        print(json.dumps(answer))
    else:
        raise AssertionError("the compiler could be imported after all")


def _run(folders: Mapping[str, str], seconds: float) -> dict[str, Any]:
    # After the hook is in place, so that nothing here can have brought the compiler in.
    from tvm_conv3dt import runtime
    from tvm_conv3dt.cli import speed
    from tvm_conv3dt.cli.bundles import runner
    from tvm_conv3dt.measure import ceiling
    from tvm_conv3dt.measure.verify import verify

    bundles = {name: runtime.load(folder) for name, folder in folders.items()}
    layers = next(iter(bundles.values())).layers
    for bundle in bundles.values():
        for layer in layers:
            verify(layer.workload, runner(bundle, layer)).raise_if_failed()
    ceilings = ceiling.measure(workloads=[layer.workload for layer in layers])
    rows = [speed.row(layer, bundles, seconds) for layer in layers]
    return {
        "ceilings": asdict(ceilings),
        "rows": [
            {
                "name": row.name,
                "id": row.workload.id,
                "timings": {name: asdict(timing) for name, timing in row.timings.items()},
            }
            for row in rows
        ],
    }


if __name__ == "__main__":
    main(sys.argv[1:])
