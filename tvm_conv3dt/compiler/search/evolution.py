"""The search for one workload: MetaSchedule proposes candidates, a measurer judges them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import islice
from statistics import median
from typing import Any

from tvm import s_tir
from tvm.s_tir import meta_schedule as ms

from tvm_conv3dt import threads as cores
from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.definition import AnyLayout
from tvm_conv3dt.compiler.schedule import point_schedule, trace_json
from tvm_conv3dt.compiler.search.context import interruptible, numpy_seeded, tune_context
from tvm_conv3dt.compiler.search.log import TuningLog
from tvm_conv3dt.compiler.search.measurer import (
    AnyMeasurer,
    Baseline,
    Candidate,
    Failure,
    Request,
    Timed,
)
from tvm_conv3dt.compiler.search.space import generator
from tvm_conv3dt.compiler.spaces.point import AnyPoint, point_of
from tvm_conv3dt.compiler.spaces.space import space_of
from tvm_conv3dt.compiler.target import target_of

__all__ = ["Search", "SearchSettings"]

_BATCH = 8
_TIMING_SECONDS = 0.12
_BUILD_TIMEOUT = 60.0
# A candidate so much slower than the best is timed once only.
_GIVE_UP = 3.0


@dataclass(frozen=True)
class SearchSettings:
    """How long and how to search.

    Attributes
    ----------
    trials : int
        Candidates in all, those of earlier runs into the same log counted in.
    deadline : float or None
        When to stop, by ``time.monotonic()``.
    seed : int
        Of everything that is drawn.
    threads : int
        That candidates run on.
    """

    trials: int
    deadline: float | None
    seed: int
    threads: int


@dataclass
class Search:
    """One run of the search for one workload.

    `on_trial` is called after each trial with the number of trials so far, the milliseconds of this one (None
    where it failed), and its failure's kind.
    """

    log: TuningLog
    settings: SearchSettings
    measurer: AnyMeasurer
    on_trial: Callable[[int, float | None, str | None], None]
    best_seconds: float = float("inf")
    trials: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    _baseline: Baseline | None = None
    _stored: dict[AnyLayout, ms.database.Workload] = field(default_factory=dict)
    _known: dict[AnyPoint, list[float]] = field(default_factory=dict)

    def run(self) -> None:
        """Search until the trials or the time are used up; resumes what the log holds."""
        log, settings = self.log, self.settings
        earlier = log.runs()
        database = log.database()
        records = list(database.get_all_tuning_records())
        # A killed run's last batch is in the records only.
        self.trials = max(sum(int(run["trials"]) for run in earlier), len(records))
        self.best_seconds = min(
            (_median(record.run_secs) for record in records), default=float("inf")
        )
        started = time.monotonic()
        this_run: dict[str, Any] = {
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seed": settings.seed,
            "threads": settings.threads,
        }
        before = self.trials

        def save(finished: bool) -> None:
            this_run.update(
                trials=self.trials - before,
                failures=dict(self.failures),
                seconds=round(time.monotonic() - started, 1),
                best_ms=None if self.best_seconds == float("inf") else self.best_seconds * 1e3,
                finished=finished,
                **self.measurer.about(),
            )
            log.write_runs([*earlier, this_run])

        save(finished=False)
        try:
            with numpy_seeded((settings.seed + len(earlier)) % 2**32):
                self._search(database, records, lambda: save(finished=False))
        finally:
            save(finished=self.trials >= settings.trials)

    @property
    def _over(self) -> bool:
        deadline = self.settings.deadline
        late = deadline is not None and time.monotonic() >= deadline
        return late or self.trials >= self.settings.trials

    def _search(
        self,
        database: ms.database.JSONDatabase,
        records: list[ms.database.TuningRecord],
        save: Callable[[], None],
    ) -> None:
        if self._over:
            return
        if records:
            self._baseline = self._recorded_baseline(records)
            self._known = {
                point_of(each.trace): [float(seconds) for seconds in each.run_secs]
                for each in records
            }
        # A tile of a GPU has few points: where all are measured, the next best one is searched.
        for formulation in self._formulations(database, records):
            if not self._over:
                self._search_in(formulation, database, save)

    def _search_in(
        self, formulation: str, database: ms.database.JSONDatabase, save: Callable[[], None]
    ) -> None:
        """Search in one formulation until all is over, or nothing new is proposed."""
        log, settings = self.log, self.settings
        target = target_of(log.device)
        layout = self._layout(formulation)
        module = kernel.new_schedule(layout).mod
        threads = min(settings.threads, cores.available())  # candidates may run elsewhere
        # Each run of a log draws anew.
        seed = settings.seed + 1000 * len(log.runs())
        context = tune_context(
            mod=module,
            target=target,
            space_generator=generator(layout, log.device, seed),
            # A space of some hundred points needs no larger population; most of a search's time is here.
            search_strategy=ms.search_strategy.EvolutionarySearch(
                population_size=48, init_min_unmeasured=16, genetic_num_iters=2
            ),
            task_name=log.workload.id,
            rand_state=seed,
            num_threads=threads,
        )
        model = ms.cost_model.XGBModel(
            num_warmup_samples=_BATCH, num_tuning_cores=threads, tree_method="hist"
        )
        known = [
            record
            for record in database.get_all_tuning_records()
            if point_of(record.trace).formulation == formulation
        ]
        if known:
            results = [ms.runner.RunnerResult(list(r.run_secs), None) for r in known]
            model.update(context, [r.as_measure_candidate() for r in known], results)
        context.pre_tuning(
            max_trials=settings.trials - self.trials + _BATCH,
            num_trials_per_iter=_BATCH,
            database=database,
            cost_model=model,
        )
        while not self._over:
            with interruptible():
                candidates = context.generate_measure_candidates()
            if not candidates:
                break
            measured = dict(
                self._measure_each(database, [candidate.sch for candidate in candidates])
            )
            # What was not measured is told as failed, and counts nowhere.
            unmeasured = ms.runner.RunnerResult(None, "not measured")
            context.notify_runner_results(
                candidates, [measured.get(i, unmeasured) for i in range(len(candidates))]
            )
            if measured:
                done = sorted(measured)
                model.update(context, [candidates[i] for i in done], [measured[i] for i in done])
            save()
        context.post_tuning()

    def _recorded_baseline(self, records: list[ms.database.TuningRecord]) -> Baseline:
        """Return the best of earlier runs, so that this run's seconds compare with theirs."""
        best = min(records, key=lambda record: _median(record.run_secs))
        layout = self._layout(point_of(best.trace).formulation)
        return Baseline(Candidate(layout, trace_json(best.trace)), _median(best.run_secs))

    def _layout(self, formulation: str) -> AnyLayout:
        return space_of(self.log.device).layout_of(self.log.workload, self.log.device, formulation)

    def _formulations(
        self, database: ms.database.JSONDatabase, records: list[ms.database.TuningRecord]
    ) -> list[str]:
        """Return the formulations, the one whose default point or best record is fastest first."""
        best = {
            point_of(record.trace).formulation: _median(record.run_secs)
            for record in sorted(records, key=lambda r: _median(r.run_secs), reverse=True)
        }
        candidates = space_of(self.log.device).default_points(self.log.workload, self.log.device)
        names: list[str] = []

        def proposals() -> Iterator[s_tir.Schedule]:
            for point in candidates:
                if point.formulation not in best:
                    schedule = point_schedule(self.log.workload, self.log.device, point)
                    names.append(point.formulation)
                    yield schedule.apply(self.log.device)

        proposed = proposals()
        # One by one until there is a baseline, beside which all others are timed.
        while self._baseline is None and not self._over:
            one = list(islice(proposed, 1))
            if not one:
                break
            for _, result in self._measure_each(database, one):
                if result.run_secs is not None:
                    best[names[-1]] = _median(result.run_secs)
        already = len(names)
        for index, result in self._measure_each(database, proposed):
            if result.run_secs is not None:
                best[names[already + index]] = _median(result.run_secs)
        return sorted(best, key=lambda name: best[name]) or [candidates[0].formulation]

    def _measure_each(
        self, database: ms.database.JSONDatabase, proposals: Iterable[s_tir.Schedule]
    ) -> Iterator[tuple[int, ms.runner.RunnerResult]]:
        """Measure candidates until the search is over; yield each one's number and result as soon as it is known.

        What is right is in the database then. Several may be under way at a time, where the measurer is a fleet. What was
        measured before is not measured again, nor what schedules may not be.
        """
        asked: list[tuple[int, Candidate, s_tir.Schedule]] = []
        known: list[tuple[int, ms.runner.RunnerResult]] = []
        before = self.trials

        def requests() -> Iterator[tuple[Request, float]]:
            for number, sch in enumerate(proposals):
                if self._over or before + len(asked) >= self.settings.trials:
                    return
                point = point_of(sch.trace)
                if point in self._known:
                    known.append((number, ms.runner.RunnerResult(self._known[point], None)))
                    continue
                # Not the layout that is searched: tiles that fill up alike have one definition, and the database gives
                # its best traces for a definition.
                layout = self._layout(point.formulation)
                if not space_of(self.log.device).within_bounds(layout, self.log.device, point):
                    # The decisions of a trace are drawn one by one; this is no trial.
                    known.append((number, ms.runner.RunnerResult(None, "beyond bounds")))
                    continue
                candidate = Candidate(layout, trace_json(sch.trace))
                asked.append((number, candidate, sch))
                give_up = self.best_seconds * _GIVE_UP
                request = Request(
                    candidate, self.log.device, _TIMING_SECONDS, give_up, self._baseline
                )
                yield request, _BUILD_TIMEOUT + 30 * min(self.best_seconds, 10.0)

        for index, outcome in self.measurer.measure_each(requests()):
            number, candidate, sch = asked[index]
            yield number, self._told(database, candidate, sch, outcome)
        yield from known

    def _told(
        self,
        database: ms.database.JSONDatabase,
        candidate: Candidate,
        sch: s_tir.Schedule,
        outcome: Timed | Failure,
    ) -> ms.runner.RunnerResult:
        """Count a trial that ended, and record what is right."""
        self.trials += 1
        if isinstance(outcome, Failure):
            self.failures[outcome.kind] += 1
            self.on_trial(self.trials, None, outcome.kind)
            return ms.runner.RunnerResult(None, outcome.message)
        seconds = list(outcome.seconds)
        if self._baseline is None:
            self._baseline = Baseline(candidate, median(seconds))
        layout = candidate.layout
        stored = self._stored.get(layout)
        if stored is None:
            stored = database.commit_workload(kernel.new_schedule(layout).mod)
            self._stored[layout] = stored
        database.commit_tuning_record(
            ms.database.TuningRecord(
                sch.trace, stored, seconds, target_of(self.log.device), _arguments(sch)
            )
        )
        self._known[point_of(sch.trace)] = seconds
        self.best_seconds = min(self.best_seconds, median(seconds))
        self.on_trial(self.trials, median(seconds) * 1e3, None)
        return ms.runner.RunnerResult(seconds, None)


def _median(seconds: Iterable[Any]) -> float:
    return median(float(each) for each in seconds)


def _arguments(sch: s_tir.Schedule) -> list[ms.arg_info.ArgInfo]:
    function = next(iter(sch.mod.functions.values()))
    return list(ms.arg_info.ArgInfo.from_prim_func(function))
