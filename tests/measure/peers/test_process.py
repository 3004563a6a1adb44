"""The worker process: what it answers, and what becomes of it when the peer goes wrong."""

import os

import numpy as np
import pytest

from tvm_conv3dt.measure.peers import Peer, process
from tvm_conv3dt.measure.peers.messages import Failure, Prepare, Prepared, Ready, Samples, Turn
from tvm_conv3dt.measure.peers.problem import Problem
from tvm_conv3dt.measure.peers.process import Process
from tvm_conv3dt.reference import reference
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.worker_process import WorkerProcess

WORKLOAD = Workload.make([1, 2, 3, 2, 4], [3, 3, 3, 2, 4], [1, 4, 6, 4, 2], 2, bias=True)


@pytest.fixture
def request_of(tmp_path):
    problem = Problem.of(WORKLOAD)
    expected = tmp_path / "expected.npy"
    result = reference(WORKLOAD, problem.x, problem.filters, problem.bias)
    np.save(expected, result.astype(np.float32))
    return lambda: Prepare(WORKLOAD, str(expected), writes=False)


@pytest.fixture
def start(tmp_path):
    started = []

    def start_fake(*arguments):
        fake = Process("fake", Peer("fake_peer", arguments=arguments), 2, tmp_path)
        started.append(fake)
        return fake

    yield start_fake
    for fake in started:
        fake.close()


def test_right_peer_is_timed_in_all_its_layouts(start, request_of):
    fake = start("right")
    answer = fake.prepare(request_of())
    assert answer == Prepared({0: ("plain", "reused"), 1: ("turned", "fresh")}, {})
    assert fake.version == "1.2"
    samples = fake.turn(Turn(1, 0.001))
    assert isinstance(samples, Samples)
    assert min(samples.seconds) > 0


def test_process_ends_without_a_word_when_who_asked_is_killed(request_of, tmp_path):
    with (tmp_path / "said").open("w+b") as said:
        arguments = ["fake_peer", "2", "slow", "0.2"]
        peer = WorkerProcess("tvm_conv3dt.measure.peers.worker", arguments, output=said)
        assert isinstance(peer.receive(60), Ready)
        peer.send(request_of())
        peer._connection.close()
        assert peer._process.wait(60) == 0
        said.seek(0)
        assert said.read() == b""


def test_our_own_result_is_written(start, tmp_path):
    written = tmp_path / "written.npy"
    answer = start("right").prepare(Prepare(WORKLOAD, str(written), writes=True))
    assert isinstance(answer, Prepared)
    problem = Problem.of(WORKLOAD)
    expected = reference(WORKLOAD, problem.x, problem.filters, problem.bias)
    np.testing.assert_array_equal(np.load(written), expected.astype(np.float32))


def test_bfloat16_comes_back_from_a_file(start, tmp_path):
    pytest.importorskip("ml_dtypes")
    workload = WORKLOAD.recast(dtype="bfloat16")
    written = str(tmp_path / "written.npy")
    for writes in (True, False):
        answer = start("right").prepare(Prepare(workload, written, writes))
        assert isinstance(answer, Prepared), answer


@pytest.mark.parametrize("behaviour", ["wrong", "NaN", "NaN at first", "shifted", "shape"])
def test_wrong_result_is_never_timed(start, request_of, behaviour):
    answer = start(behaviour).prepare(request_of())
    assert isinstance(answer, Failure)
    assert answer.kind == "wrong"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("behaviour", ["very wrong", "NaN", "shifted", "shape"])
def test_wrong_result_of_a_half_type_is_never_timed(start, tmp_path, behaviour, dtype):
    pytest.importorskip("ml_dtypes")
    workload, written = WORKLOAD.recast(dtype=dtype), str(tmp_path / "written.npy")
    assert isinstance(start("right").prepare(Prepare(workload, written, True)), Prepared)
    answer = start(behaviour).prepare(Prepare(workload, written, False))
    assert isinstance(answer, Failure)
    assert answer.kind == "wrong"


@pytest.mark.parametrize("changes", [{"dtype": "bfloat16"}, {"precision": "bfloat16"}], ids=str)
def test_peer_may_round_where_ours_does_not(start, tmp_path, changes):
    pytest.importorskip("ml_dtypes")
    workload, written = WORKLOAD.recast(**changes), str(tmp_path / "written.npy")
    start("right").prepare(Prepare(workload, written, True))
    assert isinstance(start("wrong").prepare(Prepare(workload, written, False)), Prepared)


def test_wrong_layout_leaves_the_other(start, request_of):
    answer = start("wrong layout").prepare(request_of())
    assert answer.variants == {0: ("plain", "reused")}
    assert "differs from ours" in answer.faults["turned"]


def test_layout_that_fails_leaves_the_other(start, request_of):
    answer = start("refuse layout").prepare(request_of())
    assert answer.variants == {0: ("plain", "reused")}
    assert answer.faults == {"turned": "RuntimeError: no such layout"}


def test_crash_is_told_with_its_signal_and_last_words(start, request_of):
    assert start("crash").prepare(request_of()) == Failure("SIGABRT", "the last words")


def test_crash_while_timed_is_told(start, request_of):
    fake = start("crash in a turn")
    fake.prepare(request_of())
    assert fake.turn(Turn(0, 0.001)).kind == "SIGSEGV"


def test_worker_is_started_again_after_a_crash(start, request_of, tmp_path):
    fake = start("crash once", str(tmp_path / "crashed"))
    assert fake.prepare(request_of()).kind == "exit code 7"
    assert isinstance(fake.prepare(request_of()), Prepared)


def test_peer_that_hangs_is_ended(start, request_of, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "PREPARE_TIMEOUT", 2.0)
    answer = start("hang", str(tmp_path / "pid")).prepare(request_of())
    assert answer == Failure("timeout", "no answer within 2 s")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_progress_is_told_before_the_answer(tmp_path, request_of):
    told = []
    peer = Peer("fake_peer", arguments=("slow", "0"))
    with Process("fake", peer, 2, tmp_path, told.append) as fake:
        assert isinstance(fake.prepare(request_of()), Prepared)
        assert told == [f"step {place}" for place in range(4)]
        assert isinstance(fake.turn(Turn(0, 0.001)), Samples)


@pytest.mark.slow
def test_peer_that_goes_on_has_all_the_time_it_takes(start, request_of, monkeypatch):
    fake = start("slow", "0.9")
    assert fake._start() is None
    monkeypatch.setattr(process, "PREPARE_TIMEOUT", 3.0)  # less than all its steps
    assert isinstance(fake.prepare(request_of()), Prepared)


@pytest.mark.parametrize("dropped", [(), ("OPENBLAS_CORETYPE",)])
def test_variable_that_is_dropped_does_not_reach_the_peer(
    tmp_path, request_of, monkeypatch, dropped
):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    arguments = ("refuse variable", "OPENBLAS_CORETYPE")
    peer = Peer("fake_peer", arguments=arguments, dropped=dropped)
    with Process("fake", peer, 2, tmp_path) as fake:
        answer = fake.prepare(request_of())
    if dropped:
        assert isinstance(answer, Prepared)
    else:
        assert answer == Failure("error", "ImportError: OPENBLAS_CORETYPE is set")


def test_peer_has_its_own_variables(tmp_path, request_of):
    peer = Peer("fake_peer", arguments=("refuse variable", "SPIN"), variables=(("SPIN", "1"),))
    with Process("fake", peer, 2, tmp_path) as fake:
        answer = fake.prepare(request_of())
    assert answer == Failure("error", "ImportError: SPIN is set")


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [("no start", "ImportError: no such framework"), ("refuse", "failed to compute it")],
)
def test_error_is_told(start, request_of, behaviour, message):
    assert start(behaviour).prepare(request_of()) == Failure("error", message)


def test_output_of_a_peer_stays_out_of_ours(start, request_of, capfd):
    start("noisy").prepare(request_of())
    assert "greeting" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_peer_whose_threads_never_rest_is_told(start, request_of):
    assert start("restless").prepare(request_of()).kind == "restless"
