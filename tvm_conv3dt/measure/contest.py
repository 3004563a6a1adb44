"""Times implementations in processes of their own, in turns: one works while all others sleep."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType

from tvm_conv3dt.errors import PlatformError, describe
from tvm_conv3dt.measure.ceiling import Ceilings
from tvm_conv3dt.measure.comparison import OURS, Comparison, Entry
from tvm_conv3dt.measure.peers import Peer
from tvm_conv3dt.measure.peers.messages import Failure, Prepare, Prepared, Samples, Turn
from tvm_conv3dt.measure.peers.process import Process
from tvm_conv3dt.measure.timing import Timing
from tvm_conv3dt.measure.watch import Turns, Watch
from tvm_conv3dt.spec import Workload

__all__ = ["BLAS_VARIABLES", "MACHINE", "PATIENCE", "Contest"]

# In how many rounds a layer's time is spent: every implementation has one turn in each.
ROUNDS = 7

# Seconds for each of the machine's ceilings after every layer.
_CEILING_SECONDS = 0.1

# Seconds for each load that is probed, the best of which counts: one call may wait for a thread to wake up.
_PROBE_SECONDS = 0.004

PATIENCE = 30.0
"""What patience a `Contest` has, in seconds, where nothing else is said."""

# What limits NumPy's BLAS to the kernels of another CPU: it would lower a ceiling that all are measured by.
BLAS_VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

MACHINE = Peer("tvm_conv3dt.measure.peers.machine", dropped=BLAS_VARIABLES)
"""The machine's ceilings, as far as they need no compiler."""

_Key = tuple[str, int]  # implementation, place of the variant


@dataclass
class _Samples:
    """The seconds of one implementation's turns, or one ceiling's."""

    quiet: list[Sequence[float]] = field(default_factory=list)
    disturbed: list[Sequence[float]] = field(default_factory=list)

    def add(self, seconds: Sequence[float], quiet: bool) -> None:
        (self.quiet if quiet else self.disturbed).append(seconds)

    @property
    def seconds(self) -> list[float]:
        return [each for turn in (*self.quiet, *self.disturbed) for each in turn]


class Contest:
    """Our bundle, its peers and the machine, each in a process; a context manager.

    Parameters
    ----------
    ours : Peer
        Must be right by itself: the peers' results are compared with its results.
    peers : mapping of str to Peer
        By name.
    threads : int
        How many each of them, and the machine's ceilings, may use.
    machine : Peer
        What measures the ceilings.
    on_progress : callable
        Is told an implementation's name and what it is about, where it takes long.
    watched : sequence of str
        Which of the machine's loads tell, before and after every turn, whether the machine is disturbed. A turn that is
        disturbed is taken again, whoever's it is, and where everybody has a quiet one, only quiet ones count.
    patience : float
        Seconds that a layer's turns may wait for an undisturbed machine, and be taken again, in all.
    """

    def __init__(
        self,
        ours: Peer,
        peers: Mapping[str, Peer],
        threads: int,
        machine: Peer = MACHINE,
        on_progress: Callable[[str, str], None] = lambda name, text: None,
        watched: Sequence[str] = (),
        patience: float = PATIENCE,
    ) -> None:
        self._threads = threads
        self._machine = machine
        self._on_progress = on_progress
        self._implementations = {OURS: ours, **peers}
        self._processes: dict[str, Process] = {}
        self._samples: defaultdict[str, dict[_Key, _Samples]] = defaultdict(dict)  # by layer
        self._machine_samples: defaultdict[str, _Samples] = defaultdict(_Samples)
        self._work: dict[str, int] = {}
        self._places: dict[str, int] = {}
        self._watched = watched
        self._watch = Watch(self._rates, patience)
        self._stack = ExitStack()

    def __enter__(self) -> Contest:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="conv3dt-")))
        self._expected = folder / "expected.npy"
        for name, peer in {**self._implementations, "machine": self._machine}.items():
            report = partial(self._on_progress, name)
            process = Process(name, peer, self._threads, folder, report)
            self._processes[name] = self._stack.enter_context(process)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the frameworks that have been started, by implementation."""
        return {
            name: self._processes[name].version
            for name in self._implementations
            if self._processes[name].version
        }

    def layer(
        self, name: str, workload: Workload, workspace_bytes: int, seconds: float
    ) -> Comparison:
        """Check and time one layer, then the machine's ceilings for a moment.

        Turns that were taken of a layer of that name before count with the new ones.

        Parameters
        ----------
        name : str
            The layer's short name.
        workload : Workload
            What to compute.
        workspace_bytes : int
            Of our kernel.
        seconds : float
            How long to time, all implementations together, about.

        Returns
        -------
        Comparison
            With a failure for every implementation that was wrong, crashed or hung; none is raised.
        """
        variants, failures = self._prepare(workload)
        self._prepare_machine(workload)
        self._watch.renew()
        found = self._samples[name]
        self._rounds(variants, failures, seconds, found)
        self._time_machine()
        self._samples[name] = found = {
            key: found[key] for key in variants if key[0] not in failures
        }
        # The same rule for everybody, by what was probed beside the turns and never by their own times.
        disturbed = not all(each.quiet for each in found.values())
        if not disturbed:
            for each in found.values():
                each.disturbed.clear()
        entries = tuple(
            Entry(key[0], *variants[key], Timing.of(each.seconds)) for key, each in found.items()
        )
        return Comparison(name, workload, workspace_bytes, entries, failures, disturbed)

    @property
    def turns(self) -> Turns:
        """What became of all turns so far."""
        samples = [each for group in self._samples.values() for each in group.values()]
        samples += self._machine_samples.values()
        disturbed = sum(len(each.disturbed) for each in samples)
        return Turns(
            self._watch.taken, self._watch.taken - self._watch.quiet - disturbed, disturbed
        )

    def ceilings(self) -> Ceilings:
        """Return the machine's ceilings, by the medians of all moments; at least one layer comes before.

        Raises
        ------
        PlatformError
            If they could not be measured.
        """
        timings = {name: Timing.of(found.seconds) for name, found in self._machine_samples.items()}
        return Ceilings.of(timings, self._work, self._threads)

    def _prepare(
        self, workload: Workload
    ) -> tuple[dict[_Key, tuple[str, str]], dict[str, Failure]]:
        variants: dict[_Key, tuple[str, str]] = {}
        failures: dict[str, Failure] = {}
        for name in self._implementations:
            if OURS in failures:
                failures[name] = Failure("not run", "there is no result of ours to compare with")
                continue
            request = Prepare(workload, str(self._expected), writes=name == OURS)
            answer = self._processes[name].prepare(request)
            if isinstance(answer, Failure):
                failures[name] = answer
            elif name == OURS and answer.faults:
                failures[name] = Failure("wrong", "; ".join(answer.faults.values()))
            else:
                variants.update(((name, place), each) for place, each in answer.variants.items())
                for layout, fault in answer.faults.items():
                    failures[f"{name} {layout}"] = Failure("wrong", fault)
        self._expected.unlink(missing_ok=True)
        return variants, failures

    def _rounds(
        self,
        variants: Mapping[_Key, tuple[str, str]],
        failures: dict[str, Failure],
        seconds: float,
        found: dict[_Key, _Samples],
    ) -> None:
        keys = list(variants)
        for number in range(ROUNDS):
            turn = number % max(1, len(keys))
            for name, place in keys[turn:] + keys[:turn]:
                if name in failures:
                    continue
                request = Turn(place, seconds / ROUNDS / len(keys))
                take = partial(self._processes[name].turn, request)
                answer, quiet = self._watch.take(take, final=_failed)
                if isinstance(answer, Failure):
                    failures[name] = answer
                else:
                    found.setdefault((name, place), _Samples()).add(answer.seconds, quiet)

    def _prepare_machine(self, workload: Workload) -> None:
        # For every layer again: some of what is timed has the layer's size.
        request = Prepare(workload, str(self._expected), writes=False)
        answer = self._processes["machine"].prepare(request)
        if not isinstance(answer, Prepared):
            raise _unmeasured(answer)
        self._places = {}
        for place, (label, _) in answer.variants.items():
            name, work = label.split(":")
            self._places[name] = place
            self._work[name] = int(work)

    def _time_machine(self) -> None:
        for name in self._places:
            samples = self._machine_samples[name]
            turn = partial(self._machine_turn, name, _CEILING_SECONDS)
            samples.add(*self._watch.take(turn))
            if samples.quiet:
                samples.disturbed.clear()

    def _rates(self) -> Mapping[str, float]:
        """Return how fast the machine is at this moment at what is watched."""
        watched = [name for name in self._watched if name in self._places]
        return {
            name: self._work[name] / min(self._machine_turn(name, _PROBE_SECONDS))
            for name in watched
        }

    def _machine_turn(self, name: str, seconds: float) -> Sequence[float]:
        found = self._processes["machine"].turn(Turn(self._places[name], seconds))
        if isinstance(found, Failure):
            raise _unmeasured(found)
        return found.seconds


def _failed(answer: Samples | Failure) -> bool:
    return isinstance(answer, Failure)


def _unmeasured(failure: Failure) -> PlatformError:
    value = "multiply-adds, NumPy's matrix product and copies"
    return PlatformError(
        describe("measure", "ceilings", value, f"{failure.kind}: {failure.message}")
    )
