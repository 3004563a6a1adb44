"""Are layers tuned for a Raspberry Pi on two boards that are aarch64 machines, from this one?"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

tvm = pytest.importorskip("tvm")
pytest.importorskip("xgboost")
pytest.importorskip("tornado")

import tvm_conv3dt
from tests.compiler.fleet.loopback import LoopbackFleet
from tvm_conv3dt import device, threads
from tvm_conv3dt.compiler import promote, schedule_file, tuning
from tvm_conv3dt.compiler.fleet.recruiter import FleetSettings
from tvm_conv3dt.compiler.search import evolution
from tvm_conv3dt.compiler.target_runtime import place
from tvm_conv3dt.errors import FleetError
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

pytestmark = pytest.mark.slow

PI = device.get("raspberry-pi-4")
KEY = "pi4"
SMALL = Workload.make((1, 3, 4, 5, 6), (2, 2, 2, 8, 6), (1, 6, 8, 10, 8), 2, bias=True)


@pytest.fixture(scope="module")
def fleet(machine, tmp_path_factory):
    """Two boards: TVM's Python files are the installed ones, its runtime library is of the board's architecture."""
    folder = tmp_path_factory.mktemp("board")
    place(folder, PI)
    (folder / "tvm").symlink_to(Path(tvm.__file__).parent)
    path = (
        machine.environment["PYTHONPATH"],
        str(folder),
        str(Path(tvm_conv3dt.__file__).parents[1]),
    )
    made = LoopbackFleet()
    try:
        for _ in range(2):
            made.add_emulated(
                KEY,
                machine.python,
                **{**machine.environment, "PYTHONPATH": os.pathsep.join(filter(None, path))},
                TVM_LIBRARY_PATH=str(folder),
            )
        made.wait_for(2, KEY)
        yield made
    finally:
        made.close()


def tune(fleet, target, tmp_path, count):
    return tuning.tune(
        [NamedWorkload("small", SMALL)],
        target,
        trials=4,
        logs=tmp_path / "logs",
        schedules=tmp_path / "schedules",
        threads=count,
        fleet=FleetSettings(fleet.address, KEY, wait_seconds=60.0),
    )


def test_boards_of_another_architecture_are_tuned_for(fleet, tmp_path, monkeypatch):
    monkeypatch.setattr(promote, "_ROUND_SECONDS", 0.001)
    monkeypatch.setattr(promote, "_ROUNDS", 2)
    monkeypatch.setattr(evolution, "_TIMING_SECONDS", 0.001)
    (promoted,) = tune(fleet, PI, tmp_path, threads.available())
    found = schedule_file.read(promoted.path, PI.name)
    assert (found.workload, found.device) == (SMALL, "raspberry-pi-4")
    assert found.measurement.median_ms > 0


def test_boards_that_are_another_device_are_left_out(fleet, tmp_path):
    foreign = replace(device.get("x86-64-v2"), cpu_features=())
    with pytest.raises(FleetError, match="it runs linux on aarch64, and x86-64-v2 is linux on x86"):
        tune(fleet, foreign, tmp_path, threads.available())
