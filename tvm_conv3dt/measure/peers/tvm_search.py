"""MetaSchedule as it comes, for one function at a time; finished results are kept on disk.

An entry's path has everything that decides on its content: TVM's version, the target with its cores, the trials, and
the workload. It is made beside its place and moved there when the last trial is done, so a search that is killed
leaves no half of one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import tvm
from tvm import tirx
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

from tvm_conv3dt.errors import CompileError, describe
from tvm_conv3dt.threads import pool_arguments

__all__ = ["Search"]

Report = Callable[[str], None]

# Candidates between two lessons of the cost model, and two words of progress.
_BATCH = 16
# Traces to draw candidates from. TVM's own 512 are for thousands of trials, and take minutes for every batch.
_POPULATION = 128
_POPULATION_OF_A_TRIAL = 8
_UNMEASURED = 50
_BUILD_TIMEOUT = 60.0
_RUN_TIMEOUT = 30.0
_SEED = 1

# Begins the name of a folder that is being made; a search that was killed leaves its own, for a day.
_UNFINISHED = ".tuning-"
_STALE = 86400.0

# 248 scripts for other targets' intrinsics, which TVM parses for half a minute in every process that tunes or
# builds. The space for LLVM uses none of them.
_INTRINSICS = "tvm.s_tir.tensor_intrin"


class Search:
    """Finds the best schedule of a function, or remembers it.

    Parameters
    ----------
    folder : Path
        Of all results.
    target : tvm.target.Target
        What to compile for: this machine.
    threads : int
        That candidates run on.
    trials : int
        How many candidates to measure.
    """

    def __init__(self, folder: Path, target: tvm.target.Target, threads: int, trials: int) -> None:
        key = {"tvm": tvm.__version__, "target": str(target), "trials": trials}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        self._folder = folder / digest
        self._target = target
        self._threads = threads
        self._trials = trials

    def best(self, name: str, function: tirx.PrimFunc, report: Report) -> Any:
        """Return TVM's module of the function's best schedule, and search for it first where there is none.

        Parameters
        ----------
        name : str
            The function's own, for the path of its results.
        function : tvm.tirx.PrimFunc
            What to schedule.
        report : callable
            Is told how far the search is.

        Raises
        ------
        CompileError
            If no candidate ran.
        OSError
            If the folder cannot be written.
        """
        entry = self._folder / name
        if not entry.is_dir():
            self._folder.mkdir(parents=True, exist_ok=True)
            _clear(self._folder)
            with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=self._folder) as made:
                work = Path(made) / "work"
                self._tune(function, work, report)
                self._schedule(name, function, work)  # what has no result is not kept
                shutil.rmtree(work / "logs", ignore_errors=True)
                try:
                    work.rename(entry)
                except OSError:
                    # Another process may have finished first: its result serves as well.
                    if not entry.is_dir():
                        raise
        return tvm.compile(self._schedule(name, function, entry).mod, target=self._target)

    def _tune(self, function: tirx.PrimFunc, work: Path, report: Report) -> None:
        trials = self._trials
        done, best = 0, float("inf")

        @derived_object
        class Progress(ms.measure_callback.PyMeasureCallback):  # type: ignore[misc]
            def apply(
                self, scheduler: Any, task: int, candidates: Any, builds: Any, results: Any
            ) -> None:
                nonlocal done, best
                done += len(results)
                times = [_median(each) for each in results if each.run_secs]
                best = min([best, *times])
                found = "none ran yet" if best == float("inf") else f"best {best * 1e3:.3g} ms"
                report(f"tuning, {done} of {trials} trials, {found}")

        report(f"tuning, 0 of {trials} trials")
        population = min(_POPULATION, _POPULATION_OF_A_TRIAL * trials)
        with _without_intrinsics():
            ms.tir_integration.tune_tir(
                function,
                self._target,
                str(work),
                max_trials_global=trials,
                num_trials_per_iter=min(_BATCH, trials),
                # From the target MetaSchedule would take rules for integers' intrinsics too.
                space=ms.space_generator.PostOrderApply(
                    sch_rules="llvm", postprocs="llvm", mutator_probs="llvm"
                ),
                strategy=ms.search_strategy.EvolutionarySearch(
                    population_size=population, init_min_unmeasured=min(_UNMEASURED, population)
                ),
                builder=ms.builder.LocalBuilder(
                    max_workers=self._threads, timeout_sec=_BUILD_TIMEOUT, f_build=_build
                ),
                runner=ms.runner.LocalRunner(
                    timeout_sec=_RUN_TIMEOUT, initializer=partial(_set_threads, self._threads)
                ),
                measure_callbacks=[
                    *ms.measure_callback.MeasureCallback.create("default"),
                    Progress(),
                ],
                num_tuning_cores=self._threads,
                seed=_SEED,
            )

    def _schedule(self, name: str, function: tirx.PrimFunc, work: Path) -> Any:
        files = ("database_workload.json", "database_tuning_record.json")
        database = ms.database.JSONDatabase(*(str(work / file) for file in files))
        found = ms.tir_integration.compile_tir(database, function, self._target)
        if found is None:
            rule = f"none of {self._trials} candidates of TVM's own space ran"
            mend = "try more --stock-trials"
            raise CompileError(describe("tune", "workload", name, rule, mend))
        return found


def _clear(folder: Path) -> None:
    for left in folder.glob(f"{_UNFINISHED}*"):
        with suppress(OSError):  # whoever made it may remove it now
            if time.time() - left.stat().st_mtime > _STALE:
                shutil.rmtree(left)


def _median(result: Any) -> float:
    return median(float(each) for each in result.run_secs)


@contextmanager
def _without_intrinsics() -> Iterator[None]:
    """Let TVM import its tensor intrinsics, and find none."""
    if _INTRINSICS in sys.modules:
        yield
        return
    sys.modules[_INTRINSICS] = ModuleType(_INTRINSICS)
    try:
        yield
    finally:
        del sys.modules[_INTRINSICS]


def _build(mod: Any, target: Any, params: Any) -> Any:
    """Build a candidate in a process of the builder's, as TVM's own function does."""
    mod = RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(mod)
    return tvm.compile(mod, target=target).mod


def _set_threads(threads: int) -> None:
    """Give a process of the runner's its threads; TVM's own default is half the cores."""
    tvm.get_global_func("runtime.config_threadpool")(*pool_arguments(threads, size=threads))
