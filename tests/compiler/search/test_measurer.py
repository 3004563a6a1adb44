"""Does a candidate that goes wrong, in whatever way, harm nothing but itself?"""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.layout import PHASES
from tvm_conv3dt.compiler.schedule import apply_trace, default_schedule, trace_json
from tvm_conv3dt.compiler.search import gpu_worker, worker
from tvm_conv3dt.compiler.search import measurer as measurer_module
from tvm_conv3dt.compiler.search.measurer import (
    READY,
    Baseline,
    Candidate,
    Failure,
    Measurer,
    Request,
    Timed,
)
from tvm_conv3dt.compiler.spaces.llvm import layout_of
from tvm_conv3dt.errors import TuningError
from tvm_conv3dt.spec import ACTIVATIONS, Workload
from tvm_conv3dt.worker_process import WorkerProcess

# Sums of 32 products pass what 8 bits hold.
WORKLOAD = Workload.make((1, 2, 2, 2, 32), (1, 1, 1, 8, 32), (1, 2, 2, 2, 8), 1)
NEVER = float("inf")


@pytest.fixture(scope="module")
def measurer():
    """One for all tests: each must leave it fit for the next."""
    with Measurer(threads=1) as measurer:
        yield measurer


@pytest.fixture(scope="module")
def good(host):
    return default_schedule(WORKLOAD, host).trace


@pytest.fixture(scope="module")
def wrong(host, good):
    """A trace that keeps the sums in 8 bits."""
    sch = kernel.new_schedule(layout_of(WORKLOAD, host, PHASES))
    apply_trace(sch, good, WORKLOAD)
    sch.unsafe_set_dtype("accumulator_update", 0, "int8")
    return trace_json(sch.trace)


class Ends:
    """Ends the process that unpickles it."""

    def __init__(self, code):
        self.code = code

    def __reduce__(self):
        return os._exit, (self.code,)


def request(trace, host, workload=WORKLOAD, seconds=0.001, give_up_seconds=NEVER):
    layout = default_schedule(workload, host).layout(host)
    return Request(Candidate(layout, trace), host, seconds, give_up_seconds)


def assert_next_request_works(measurer, good, host):
    assert isinstance(measurer.measure(request(good, host), 60), Timed)


def test_right_candidate_is_timed(measurer, good, host):
    outcome = measurer.measure(request(good, host), 60)
    assert isinstance(outcome, Timed)
    assert len(outcome.seconds) >= 3
    assert min(outcome.seconds) > 0


def test_process_ends_without_a_word_when_who_asked_is_killed(good, host, tmp_path):
    with (tmp_path / "said").open("w+b") as said:
        process = WorkerProcess("tvm_conv3dt.compiler.search.worker", ["1"], output=said)
        assert process.receive(120) == READY
        process.send(request(good, host, seconds=0.5))
        process._connection.close()
        assert process._process.wait(60) == 0
        said.seek(0)
        assert said.read() == b""


def test_workspace_is_reported(measurer, small, host):
    default = default_schedule(small, host)
    built = kernel.compile_kernel(default.layout(host), host, default.apply(host))
    outcome = measurer.measure(request(default.trace, host, small), 60)
    assert outcome.workspace_bytes == built.workspace_bytes


def test_slow_candidate_is_timed_once(measurer, good, host):
    outcome = measurer.measure(request(good, host, give_up_seconds=0.0), 60)
    assert len(outcome.seconds) == 1


def test_wrong_candidate_is_reported(measurer, wrong, good, host):
    outcome = measurer.measure(request(wrong, host), 60)
    assert outcome.kind == "wrong"
    assert outcome.message.endswith("of 64 results differ from the reference")
    assert_next_request_works(measurer, good, host)


def test_candidate_that_does_not_compile_is_reported(measurer, good, host):
    garbage = [[["GetSBlock", [], ["no such block", "main"], ["b0"]]], []]
    outcome = measurer.measure(request(garbage, host), 60)
    assert outcome.kind == "compile"
    assert "it does not fit the definition" in outcome.message
    assert_next_request_works(measurer, good, host)


def test_candidate_that_crashes_the_process_is_reported(measurer, good, host):
    deadly = replace(request(good, host), candidate=Ends(7))
    outcome = measurer.measure(deadly, 60)
    assert outcome == Failure("crash", "the measuring process ended with 7")
    assert_next_request_works(measurer, good, host)


def test_process_that_reports_a_failure_of_compiled_code_is_replaced(measurer, good, host):
    measurer.measure(request(good, host), 60)
    process = measurer._worker._process
    outcome = measurer.measure(replace(request(good, host), candidate=None), 60)
    assert outcome.kind == "crash"
    assert "'NoneType'" in outcome.message
    assert process.poll() is not None
    assert_next_request_works(measurer, good, host)


def test_process_of_a_gpu_is_one_of_its_own(good, host, monkeypatch):
    started = []

    class Started:
        def __init__(self, module, arguments):
            started.append((module, arguments))

        def receive(self, timeout):
            return "ready"

        def ask(self, request, timeout):
            return Timed((1.0,), 0)

        def close(self):
            pass

    monkeypatch.setattr(measurer_module, "WorkerProcess", Started)
    with Measurer(2, "cuda") as own:
        own.measure(request(good, host), 60)
    assert started == [("tvm_conv3dt.compiler.search.gpu_worker", ["2"])]


def test_process_of_a_gpu_loads_the_cuda_runtime_first(monkeypatch):
    done = []
    monkeypatch.setattr(gpu_worker.cudart, "load", lambda: done.append("cudart"))
    monkeypatch.setattr(worker, "main", lambda: done.append("worker"))
    gpu_worker.main()
    assert done == ["cudart", "worker"]


def test_module_of_that_process_imports_no_tvm():
    program = "import sys, tvm_conv3dt.compiler.search.gpu_worker; sys.exit('tvm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_candidate_that_hangs_is_reported(measurer, good, host):
    outcome = measurer.measure(request(good, host, seconds=1e9), 1)
    assert outcome == Failure("timeout", "no answer within 1 s")
    assert_next_request_works(measurer, good, host)


def test_interruption_leaves_no_answer_to_the_next_request(measurer, good, host, monkeypatch):
    measurer.measure(request(good, host), 60)
    connection = measurer._worker._connection

    class Interrupted:
        def __getattr__(self, name):
            return getattr(connection, name)

        def poll(self, timeout):
            raise KeyboardInterrupt

    measurer._worker._connection = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        measurer.measure(request(good, host, seconds=1e9), 60)
    assert_next_request_works(measurer, good, host)


def test_closed_measurer_leaves_no_process(good, host):
    with Measurer(threads=1) as own:
        own.measure(request(good, host), 60)
        process = own._worker._process
    assert process.poll() is not None


@pytest.mark.parametrize("program", ["false", "absent"])
def test_process_that_cannot_start_is_no_candidates_fault(program, good, host, monkeypatch):
    monkeypatch.setattr(sys, "executable", f"/bin/{program}")
    with Measurer(threads=1) as own, pytest.raises(TuningError, match="the measuring process"):
        own.measure(request(good, host), 60)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_candidate_with_bias_and_activation_verifies(activation, host):
    workload = Workload.make(
        (1, 2, 2, 2, 4), (2, 2, 2, 9, 4), (1, 4, 4, 4, 9), 2, bias=True, activation=activation
    )
    trace = default_schedule(workload, host).trace
    assert isinstance(worker.measure(request(trace, host, workload)), Timed)


def test_seconds_are_told_at_the_pace_of_the_baseline(good, host, monkeypatch):
    """A machine at half its speed doubles the seconds of both, and tells those of a whole one."""
    layout = default_schedule(WORKLOAD, host).layout(host)
    candidate = Candidate(layout, good)
    other = Candidate(layout, json.loads(json.dumps(good)))
    pace = {"baseline": 4.0, "candidate": 6.0}  # it took 2 when it was measured first

    calls = []

    def block(ready, first):
        times = [pace["baseline" if len(calls) % 2 else "candidate"]] * 2
        calls.append(first)
        return times

    monkeypatch.setattr(worker, "_verified", lambda ready: (6.0, None))
    monkeypatch.setattr(worker._Ready, "block", block)
    outcome = worker.measure(Request(candidate, host, 0.1, NEVER, Baseline(other, 2.0)))
    assert set(outcome.seconds) == {3.0}


def test_baseline_that_cannot_be_built_is_no_time(good, host):
    layout = default_schedule(WORKLOAD, host).layout(host)
    broken = Baseline(Candidate(layout, [[["NoSuchInstruction", [], [], []]], []]), 1.0)
    outcome = worker.measure(Request(Candidate(layout, good), host, 0.001, NEVER, broken))
    assert isinstance(outcome, Failure)
    assert outcome.kind == "compile"
