"""A bundle that another machine runs, as a callable of this one: arrays go and come in files."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

_PROGRAM = Path(__file__).with_name("board.py")
_SECONDS = 900


class Remote:
    """A process on the machine that has loaded a bundle; close it, or use it in a ``with``."""

    def __init__(self, machine: Any, bundle: Path, work: Path) -> None:
        self._work = work
        self._errors = (work / "stderr").open("w+")
        self._process = subprocess.Popen(
            [*machine.python, str(_PROGRAM), str(bundle)],
            env=machine.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.facts = self._answer()

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def run(self, layer: str, x: Any, filters: Any, bias: Any, out: Any) -> None:
        """Run a layer there; the arguments are those that `tvm_conv3dt.measure.verify` passes."""
        arrays = {"x": x, "filters": filters, "bias": bias, "out": out}
        for name, array in arrays.items():
            if array is not None:
                np.save(self._work / f"{name}.npy", array)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"layer": layer, "folder": str(self._work)}) + "\n")
        self._process.stdin.flush()
        self._answer()
        out[...] = np.load(self._work / "out.npy").view(out.dtype)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        watchdog = threading.Timer(_SECONDS, self._process.kill)
        watchdog.start()
        line = self._process.stdout.readline()
        watchdog.cancel()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            raise AssertionError(f"the machine's process ended with {code}: {self._errors.read()}")
        answer: dict[str, Any] = json.loads(line)
        return answer
