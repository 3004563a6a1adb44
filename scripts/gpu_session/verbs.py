"""The steps of a session that are verbs of tvm-conv3dt."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from environment import succeeds
from steps import Steps, write

__all__ = ["Verbs"]

_GRACE = 1800.0  # seconds that tuning gets beyond its limit, to promote what it found
_FIRST_ROUND = 4  # of the trials and the time: so much is the first round's share


class Verbs:
    """Runs verbs as steps, for a device and workloads, in each type."""

    def __init__(
        self,
        steps: Steps,
        tool: list[str | Path],
        options: argparse.Namespace,
        workloads: list[str],
        bundles: Path,
    ) -> None:
        self._steps = steps
        self._tool = tool
        self._options = options
        self._device = "host" if options.cpu else options.device
        self._workloads = workloads
        self._bundles = bundles

    def check(self, quick: str) -> None:
        """Build a few layers untuned, and verify them: the short way through compiler and driver."""
        for dtype in self._options.dtypes:
            bundle = self._bundles / f"check-{dtype}"
            command = ["build", "--device", self._device, "--workloads", quick, "--dtype", dtype]
            if self._run(f"check: build {dtype}", [*command, "-o", bundle, "--allow-untuned"]):
                self._run(f"check: verify {dtype}", ["verify", bundle])
            else:
                self._steps.skip(f"check: verify {dtype}", "it was not built")

    def tune(self) -> None:
        """Tune in two rounds, so that each type has something early; each divides its time among the layers."""
        trials, dtypes = self._options.trials, self._options.dtypes
        end = time.monotonic() + self._options.time_limit
        rounds = [(1, max(1, trials // _FIRST_ROUND)), (2, trials)]
        left = [(number, count, dtype) for number, count in rounds for dtype in dtypes]
        first = self._options.time_limit / _FIRST_ROUND / len(dtypes)
        for index, (number, count, dtype) in enumerate(left):
            remaining = end - time.monotonic()
            # Whatever the others took: no type goes without.
            share = first if number == 1 else remaining / (len(left) - index)
            name = f"tune {dtype}, round {number}"
            if number > 1 and share < 1:
                self._steps.skip(name, "the time is over")
                continue
            self._search(name, dtype, ["tune", "--trials", str(count)], share)
        for dtype in dtypes:
            self._search(f"promote {dtype}", dtype, ["promote"])

    def _search(
        self, name: str, dtype: str, verb: Sequence[str | Path], seconds: float | None = None
    ) -> None:
        """Tune or promote all layers; where one of them ends that with a failure, each by itself."""
        start = time.monotonic()
        if self._search_in(name, dtype, verb, self._workloads, seconds):
            return
        layers = self._layers()
        if seconds is not None:
            seconds = max(1.0, (start + seconds - time.monotonic()) / max(1, len(layers)))
        if len(layers) > 1:
            for layer in layers:
                self._search_in(f"{name}, {layer}", dtype, verb, [layer], seconds)

    def _search_in(
        self,
        name: str,
        dtype: str,
        verb: Sequence[str | Path],
        workloads: list[str],
        seconds: float | None,
    ) -> bool:
        command = [*verb, *self._recast(dtype, workloads), *self._kept("--logs", "--schedules")]
        limit = self._options.step_limit
        if seconds is not None:
            command += ["--time-limit", f"{seconds:.1f}"]
            limit = seconds + _GRACE
        output = f"tables/{name.replace(', ', '-').replace(' ', '-')}.json"
        return self._run(name, [*command, "--json"], output, limit)

    def _layers(self) -> list[str]:
        """Return the ids of what is tuned, small ones first."""
        found: dict[str, float] = {}
        for each in self._workloads:
            output = f"tables/show-{Path(each).stem}.json"
            if self._run(f"show {each}", ["show", each, "--json"], output):
                shown = json.loads((self._steps.results / output).read_text())["workloads"]
                found.update((workload["id"], workload["gflop"]) for workload in shown)
        return sorted(found, key=lambda each: found[each])

    def build(self, dtype: str) -> bool:
        """Build the bundle of one type, and describe it."""
        bundle = self._bundles / dtype
        kept = self._kept("--schedules")
        command = ["build", *self._recast(dtype), *kept, "-o", bundle, "--allow-untuned", "--json"]
        if not self._run(f"build {dtype}", command, f"tables/bundle-{dtype}.json"):
            for name in ("verify", "bench"):
                self._steps.skip(f"{name} {dtype}", "it was not built")
            return False
        self._run(f"show {dtype}", ["show", bundle], f"tables/bundle-{dtype}.txt")
        return True

    def verify(self, dtype: str) -> None:
        """Verify every layer."""
        output = f"tables/verify-{dtype}.json"
        self._run(f"verify {dtype}", ["verify", self._bundles / dtype, "--json"], output)
        found = self._steps.results / output
        with contextlib.suppress(ValueError, KeyError):  # it was cut off, and is told as failed
            write(found.with_suffix(".txt"), _verified(json.loads(found.read_text())))

    def bench(self, dtype: str, python: Path) -> None:
        """Time every layer, against PyTorch where it is there and sees the GPU."""
        command: list[str | Path] = ["bench", self._bundles / dtype]
        command += ["--seconds", str(self._options.bench_seconds)]
        command += ["-o", self._steps.results / "bench" / dtype]
        if self._options.cpu:
            command += ["--patience", "0"]  # nobody keeps a rehearsal's times
        program = "import sys, torch; sys.exit(not (sys.argv[1:] or torch.cuda.is_available()))"
        if succeeds([python, "-c", program, *(["cpu"] if self._options.cpu else [])]):
            command += ["--against", "pytorch"]
        else:
            self._steps.say("PyTorch is not there, or sees no GPU: nothing to compare with")
        self._run(f"bench {dtype}", command, f"tables/bench-{dtype}.txt")

    def _recast(self, dtype: str, workloads: list[str] | None = None) -> list[str | Path]:
        named = self._workloads if workloads is None else workloads
        return ["--device", self._device, "--workloads", *named, "--dtype", dtype]

    def _kept(self, *options: str) -> list[str | Path]:
        folders = {"--logs": "tuning_logs", "--schedules": "schedules"}
        return [word for name in options for word in (name, self._steps.results / folders[name])]

    def _run(
        self,
        name: str,
        command: Sequence[str | Path],
        output: str | None = None,
        limit: float | None = None,
    ) -> bool:
        limit = self._options.step_limit if limit is None else limit
        return self._steps.run(name, [*self._tool, *command], limit, output)


def _verified(found: dict[str, Any]) -> str:
    lines = [f"level {found['level']}"]
    for layer in found["layers"]:
        for check in layer["checks"]:
            worst = "-" if check["worst"] is None else f"{check['worst']:.0%}"
            lines.append(f"{check['status']:<8} {layer['name']:<24} {check['data']:<10} {worst:>6}")
    return "\n".join(lines) + "\n"
