"""TVM's own operator: what is refused, and which of its results are kept."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")
pytest.importorskip("xgboost")

from tvm_conv3dt.errors import CompileError, UnsupportedError
from tvm_conv3dt.measure.peers import PEERS, tvm_search
from tvm_conv3dt.measure.peers import tvm as stock
from tvm_conv3dt.measure.peers.messages import Prepare, Prepared, Samples, Turn
from tvm_conv3dt.measure.peers.problem import Problem
from tvm_conv3dt.measure.peers.process import Process
from tvm_conv3dt.measure.peers.tvm_search import Search
from tvm_conv3dt.reference import reference
from tvm_conv3dt.spec import Workload

SHAPES = ([1, 3, 3, 4, 5], [3, 3, 3, 7, 5])
WORKLOADS = {
    "more cut after": Workload.make(*SHAPES, [1, 6, 6, 8, 7], 2, bias=True, activation="relu"),
    "zeros after": Workload.make(*SHAPES, [1, 8, 7, 10, 7], 2, "VALID", activation="elu"),
    "holes": Workload.make([1, 3, 3, 4, 5], [1, 2, 2, 7, 5], [1, 9, 8, 11, 7], 3, "VALID"),
    "leaky": Workload.make(*SHAPES, [1, 5, 6, 7, 7], 2, activation="leaky_relu", alpha=0.5),
    "sigmoid": Workload.make(*SHAPES, [1, 5, 5, 6, 7], 1, "VALID", activation="sigmoid"),
    "tanh": Workload.make(*SHAPES, [1, 3, 3, 4, 7], 1, bias=True, activation="tanh"),
    "dilation of one tap": Workload.make(
        [1, 3, 3, 4, 5], [1, 1, 1, 7, 5], [1, 3, 3, 4, 7], 1, dilations=2
    ),
    "more cut before": Workload.make(*SHAPES, [1, 6, 6, 8, 7], 2, [1, 1, 1], bias=True),
    "much cut before, nothing after": Workload.make(*SHAPES, [1, 3, 4, 5, 7], [2, 1, 2], [4, 1, 4]),
    "much cut after": Workload.make(*SHAPES, [1, 2, 1, 3, 7], 2, [1, 0, 2]),
    "cut before, zeros after": Workload.make(*SHAPES, [1, 7, 6, 8, 7], 2, [1, 2, 2]),
    "channels first": Workload.make(
        [1, 5, 3, 3, 4], [3, 3, 3, 7, 5], [1, 7, 6, 6, 8], 2, data_format="NCDHW", bias=True
    ),
}


def dummy(search, name, function, report):
    """The function as it is, instead of the best schedule."""
    return tvm.compile(tvm.IRModule({"main": function}), target=stock.target(1))


@pytest.fixture
def function():
    return stock.define(Problem.of(WORKLOADS["more cut after"]))


@pytest.fixture
def search(tmp_path):
    return lambda trials=4: Search(tmp_path, stock.target(1), 1, trials)


@pytest.fixture
def tuned(monkeypatch):
    """Searches that take no time: one loop is parallel; lists where they were done."""
    names = []

    def tune(function, target, work, **options):
        names.append(work)
        Path(work).mkdir(parents=True)
        files = ("database_workload.json", "database_tuning_record.json")
        database = tvm_search.ms.database.JSONDatabase(*(str(Path(work) / file) for file in files))
        module = tvm_search.ms.tune_context._normalize_mod(function)
        stored = database.commit_workload(module)
        sch = tvm.s_tir.Schedule(module)
        sch.parallel(
            sch.get_loops(sch.get_sblock("data_pad"))[0]
        )  # a trace of nothing is no record
        record = tvm_search.ms.database.TuningRecord(sch.trace, stored, [1.0], target, [])
        database.commit_tuning_record(record)

    monkeypatch.setattr(tvm_search.ms.tir_integration, "tune_tir", tune)
    return names


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_operator_is_right_before_it_is_scheduled(workload, monkeypatch):
    monkeypatch.setattr(Search, "best", dummy)
    problem = Problem.of(workload)
    (variant,) = stock.start(1, "unused", "1").prepare(problem)
    expected = reference(workload, problem.x, problem.filters, problem.bias)
    assert (variant.layout, variant.output) == ("NCDHW", "reused")
    np.testing.assert_allclose(variant.array(variant.run()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["more cut after", "leaky"])
def test_half_types_are_added_in_float32(name, dtype, monkeypatch):
    pytest.importorskip("ml_dtypes")
    monkeypatch.setattr(Search, "best", dummy)
    workload = WORKLOADS[name].recast(dtype=dtype)
    problem = Problem.of(workload)
    (variant,) = stock.start(1, "unused", "1").prepare(problem)
    found = variant.array(variant.run())
    assert found.dtype == workload.numpy_dtype
    expected = reference(workload, problem.x, problem.filters, problem.bias)
    # One rounding at the end, whose size is that of the result.
    np.testing.assert_allclose(found.astype(float), expected, rtol=2**-8, atol=1e-4)


def test_dilation_is_refused():
    workload = Workload.make([1, 4, 4, 4, 2], [2, 2, 2, 3, 2], [1, 8, 8, 8, 3], 2, dilations=2)
    with pytest.raises(UnsupportedError, match="conv3d_transpose has no dilation"):
        stock.define(Problem.of(workload))


def test_more_zeros_at_the_end_than_it_adds_are_refused():
    shapes = [1, 3, 3, 3, 2], [1, 1, 1, 2, 2], [1, 5, 3, 3, 2]
    workload = Workload.make(*shapes, 1, [0, 0, 0], dilations=3)
    with pytest.raises(UnsupportedError, match=r"zeros \[2, 0, 0\] .* fewer than the stride"):
        stock.define(Problem.of(workload))


def test_second_search_finds_the_first_ones_result(search, function, tuned, tmp_path):
    for _ in range(2):
        assert search().best("name", function, print)["main"]
    assert len(tuned) == 1
    (entry,) = tmp_path.glob("*/*")
    assert entry.name == "name"


def test_other_trials_are_another_search(search, function, tuned):
    for trials in (4, 5):
        search(trials).best("name", function, print)
    assert len(tuned) == 2


def test_search_that_is_stopped_leaves_nothing(search, function, tmp_path, monkeypatch):
    def stop(function, target, work, **options):
        Path(work).mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(tvm_search.ms.tir_integration, "tune_tir", stop)
    with pytest.raises(KeyboardInterrupt):
        search().best("name", function, print)
    assert list(tmp_path.glob("*/*")) == []


def test_what_a_killed_search_left_goes_after_a_day(search, function, tuned, tmp_path):
    search().best("first", function, print)
    (folder,) = tmp_path.iterdir()
    for name, age in ((".tuning-old", 2 * 86400), (".tuning-new", 0)):
        (folder / name).mkdir()
        os.utime(folder / name, (time.time() - age,) * 2)
    search().best("second", function, print)
    assert {each.name for each in folder.iterdir()} == {"first", "second", ".tuning-new"}


def test_result_of_another_process_serves_as_well(search, function, tuned, tmp_path, monkeypatch):
    finder = search()
    tune = tvm_search.ms.tir_integration.tune_tir

    def late(function, target, work, **options):
        tune(function, target, work, **options)
        if len(tuned) == 1:
            search().best("name", function, print)

    monkeypatch.setattr(tvm_search.ms.tir_integration, "tune_tir", late)
    assert finder.best("name", function, print)["main"]
    assert len(tuned) == 2
    assert [entry.name for entry in tmp_path.glob("*/*")] == ["name"]


def test_search_without_a_candidate_that_runs_is_an_error(search, function, tmp_path, monkeypatch):
    def find_nothing(function, target, work, **options):
        Path(work).mkdir(parents=True)
        for name in ("database_workload.json", "database_tuning_record.json"):
            (Path(work) / name).touch()

    monkeypatch.setattr(tvm_search.ms.tir_integration, "tune_tir", find_nothing)
    with pytest.raises(CompileError, match=r"none of 4 candidates .* --stock-trials"):
        search().best("name", function, print)
    assert list(tmp_path.glob("*/*")) == []


@pytest.mark.slow
def test_real_search_reports_and_its_result_is_right(tmp_path):
    workload = WORKLOADS["more cut after"]
    problem = Problem.of(workload)
    expected = reference(workload, problem.x, problem.filters, problem.bias)
    np.save(tmp_path / "expected.npy", expected.astype(np.float32))
    told = []
    peer = replace(PEERS["tvm"], arguments=(str(tmp_path / "kept"), "2"))
    with Process("tvm", peer, 1, tmp_path, told.append) as process:
        request = Prepare(workload, str(tmp_path / "expected.npy"), writes=False)
        first = process.prepare(request)
        assert first == Prepared({0: ("NCDHW", "reused")}, {}), first
        assert isinstance(process.turn(Turn(0, 0.001)), Samples)
        assert told[0] == "tuning, 0 of 2 trials"
        assert told[-1].startswith("tuning, 2 of 2 trials, best ")
        count = len(told)
        assert process.prepare(request) == first
        assert len(told) == count
    assert process.version == tvm.__version__
