"""Does a tuning run end by itself, with every finished trial in its log once, while boards are killed and one hangs?"""

import json
import random
import signal
import threading
import time
from statistics import median

import pytest

pytest.importorskip("tvm")
pytest.importorskip("xgboost")
pytest.importorskip("tornado")

from tvm_conv3dt.compiler import promote, tuning
from tvm_conv3dt.compiler.fleet.recruiter import FleetSettings
from tvm_conv3dt.compiler.search import evolution
from tvm_conv3dt.workload_set import NamedWorkload

from .loopback import KEY

pytestmark = pytest.mark.slow

TRIALS = 20
KILLS = 10
# The last trials wait until all kills are done.
HELD_BACK = 4


class Killer(threading.Thread):
    """Kills boards at random, one after about every trial, and starts them again; stops one in the middle for good."""

    def __init__(self, fleet, seed):
        super().__init__(daemon=True)
        self.fleet = fleet
        self.random = random.Random(seed)
        self.trial_ended = threading.Event()
        self.killed = 0
        self.stopped = None

    def run(self):
        while self.killed < KILLS:
            self.trial_ended.wait(3.0)
            self.trial_ended.clear()
            time.sleep(self.random.uniform(0.0, 1.0))
            ports = [port for port in self.fleet.boards if port != self.stopped]
            port = self.random.choice(ports)
            if self.killed == KILLS // 2 and self.stopped is None:
                self.stopped = port
                self.fleet.signal(port, signal.SIGSTOP)
                continue
            self.fleet.signal(port, signal.SIGKILL)
            self.killed += 1
            self.fleet.add(port=port)


def test_log_has_every_finished_trial_once(fleet, host, small, tmp_path, monkeypatch):
    monkeypatch.setattr(promote, "_ROUND_SECONDS", 0.001)
    monkeypatch.setattr(promote, "_ROUNDS", 2)
    monkeypatch.setattr(evolution, "_TIMING_SECONDS", 0.001)
    for _ in range(3):
        fleet.add()
    fleet.wait_for(3)
    killer = Killer(fleet, seed=6)
    reports, notes = [], []

    def report(progress):
        reports.append(progress)
        killer.trial_ended.set()
        if progress.trial == 1:
            killer.start()
        if progress.trial == TRIALS - HELD_BACK:
            killer.join(60)

    promoted = tuning.tune(
        [NamedWorkload("small", small)],
        host,
        trials=TRIALS,
        logs=tmp_path / "logs",
        schedules=tmp_path / "schedules",
        fleet=FleetSettings(fleet.address, KEY, board_seconds=5.0, wait_seconds=60.0),
        on_progress=report,
        on_note=notes.append,
    )
    assert (killer.killed, killer.stopped is None) == (KILLS, False)

    # Every trial ended and was told once, and each that was right is in the log once, as it was told.
    assert [each.trial for each in reports] == list(range(1, TRIALS + 1))
    assert {each.failure for each in reports} <= {None, "timeout"}, notes
    folder = tmp_path / "logs" / host.name / small.id
    lines = (folder / "database_tuning_record.json").read_text().splitlines()
    records = [json.loads(line)[1] for line in lines]
    told = [each.milliseconds for each in reports if each.failure is None]
    assert [1e3 * median(record[1]) for record in records] == pytest.approx(told)
    traces = [json.dumps(record[0]) for record in records]
    assert len(set(traces)) == len(traces)

    (run,) = json.loads((folder / "run.json").read_text())["runs"]
    assert (run["trials"], run["finished"]) == (TRIALS, True)
    assert run["failures"] == {
        kind: sum(each.failure == kind for each in reports)
        for kind in {each.failure for each in reports} - {None}
    }
    assert sum(run["fleet"]["boards"].values()) == len(told)
    assert [each.name for each in promoted] == ["small"]
