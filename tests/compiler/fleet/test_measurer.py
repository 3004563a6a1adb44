"""Are candidates judged on boards as they would be here, and is whatever goes wrong told as what it is?"""

import os
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tvm")
pytest.importorskip("tornado")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.fleet import measurer as measurer_module
from tvm_conv3dt.compiler.fleet.measurer import FleetMeasurer
from tvm_conv3dt.compiler.fleet.recruiter import FleetSettings
from tvm_conv3dt.compiler.fleet.tracker import Address
from tvm_conv3dt.compiler.layout import PHASES
from tvm_conv3dt.compiler.schedule import apply_trace, default_schedule, trace_json
from tvm_conv3dt.compiler.search.measurer import Baseline, Candidate, Failure, Request, Timed
from tvm_conv3dt.compiler.spaces.llvm import layout_of
from tvm_conv3dt.errors import FleetError, UnsupportedError
from tvm_conv3dt.spec import Workload

from .loopback import KEY, LoopbackFleet, free_port

pytestmark = pytest.mark.slow

# Sums of 32 products pass what 8 bits hold.
WORKLOAD = Workload.make((1, 2, 2, 2, 32), (1, 1, 1, 8, 32), (1, 2, 2, 2, 8), 1)
NEVER = float("inf")


@pytest.fixture(scope="module")
def two():
    """Two boards, and one of another kind with TVM's own server."""
    made = LoopbackFleet()
    made.add(), made.add()
    made.add_stock("stock", TVM_NUM_THREADS=str(os.cpu_count()))
    made.wait_for(2)
    made.wait_for(1, "stock")
    yield made
    made.close()


@pytest.fixture
def told():
    return []


@pytest.fixture
def measuring(host, told):
    """Makes measurers that wait shortly; they are closed in the end."""
    made = []

    def make(fleet, key=KEY, **settings):
        address = fleet if isinstance(fleet, Address) else fleet.address
        limits = {"board_seconds": 20.0, "wait_seconds": 20.0, **settings}
        made.append(
            FleetMeasurer(host, host.cores, FleetSettings(address, key, **limits), told.append)
        )
        return made[-1]

    yield make
    for each in made:
        each.close()


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


def test_candidates_are_judged_on_a_board(two, measuring, good, wrong, host):
    measurer = measuring(two)
    right = measurer.measure(request(good, host), 60)
    assert len(right.seconds) >= 3
    assert right.board in {f"127.0.0.1:{port}" for port in two.boards}
    assert measurer.measure(request(wrong, host), 60).message.endswith(
        "of 64 results differ from the reference"
    )
    garbage = [[["GetSBlock", [], ["no such block", "main"], ["b0"]]], []]
    assert measurer.measure(request(garbage, host), 60).kind == "compile"
    slow = measurer.measure(request(good, host, give_up_seconds=0.0), 60)
    assert (len(slow.seconds), slow.board) == (1, right.board)
    assert measurer.about() == {"fleet": {"key": KEY, "boards": {right.board: 4}}}


def test_candidates_of_every_type_are_exact_on_a_board(two, measuring, host):
    measurer = measuring(two)
    for dtype in ("float32", "float64", "float16", "bfloat16"):
        workload = Workload.make(
            (1, 2, 2, 2, 4), (2, 2, 2, 9, 4), (1, 4, 4, 4, 9), 2, bias=True, dtype=dtype
        )
        trace = default_schedule(workload, host).trace
        assert isinstance(measurer.measure(request(trace, host, workload), 60), Timed)


def test_boards_share_candidates_and_each_is_told_once(two, measuring, good, host):
    layout = default_schedule(WORKLOAD, host).layout(host)
    one = replace(
        request(good, host, seconds=0.02), baseline=Baseline(Candidate(layout, good), 1.0)
    )
    outcomes = list(measuring(two).measure_each((one, 60) for _ in range(12)))
    assert sorted(index for index, _ in outcomes) == list(range(12))
    assert len({outcome.board for _, outcome in outcomes}) == 2


def test_board_with_tvms_own_server_is_used_as_it_is(two, measuring, good, host):
    # It serves nobody any more after a session that is cut off.
    for _ in range(3):
        two.wait_for(1, "stock")
        measurer = measuring(two, "stock")
        assert isinstance(measurer.measure(request(good, host), 60), Timed)
        assert measurer.processor(host) == "unknown board of key stock"
        measurer.close()


def test_candidate_that_ends_every_process_is_blamed_and_no_board(two, measuring, good, host, told):
    measurer = measuring(two)
    deadly = replace(request(good, host), candidate=Ends(7))
    outcome = measurer.measure(deadly, 60)
    assert outcome == Failure(
        "crash", "3 sessions with boards were lost: its process here ended with 7"
    )
    assert isinstance(measurer.measure(request(good, host), 60), Timed)
    assert told == []


def test_candidate_that_takes_too_long_is_given_up(two, measuring, good, host):
    measurer = measuring(two, board_seconds=3.0)
    outcome = measurer.measure(request(good, host, seconds=1e9), 60)
    assert outcome == Failure(
        "timeout", "2 sessions with boards were lost: it did not answer in time"
    )


def test_interrupted_batch_leaves_no_answer_to_the_next(two, measuring, good, wrong, host):
    measurer = measuring(two)
    for _, outcome in measurer.measure_each((request(good, host), 60) for _ in range(9)):
        break  # others are under way
    assert measurer.measure(request(wrong, host), 60).kind == "wrong"


def test_key_without_boards_is_an_error_that_says_what_there_is(two, measuring, good, host, told):
    # Boards that served the test before register anew.
    two.wait_for(2)
    two.wait_for(1, "stock")
    with pytest.raises(FleetError) as caught:
        measuring(two, "pi9", wait_seconds=7.0).measure(request(good, host), 60)
    assert "failed to get a board of key with pi9: none was free for 7 s" in str(caught.value)
    assert f"2 of key {KEY}, 2 free; 1 of key stock, 1 free" in str(caught.value)
    (note,) = told
    assert note.startswith("no free board of key pi9 yet (the tracker has: ")


def test_no_tracker_is_an_error_after_a_while(measuring, good, host):
    address = Address("127.0.0.1", free_port())
    with pytest.raises(FleetError, match=f"failed to ask the tracker with {address}: .*refused"):
        measuring(address, wait_seconds=1.0).measure(request(good, host), 60)


def test_something_else_in_the_trackers_place_is_an_error_at_once(two, measuring, good, host):
    port = next(iter(two.boards))  # a board knows another greeting
    with pytest.raises(FleetError, match=r"is no tracker|does not answer"):
        measuring(Address("127.0.0.1", port), wait_seconds=1.0).measure(request(good, host), 60)


def test_boards_that_cannot_run_the_code_are_left_out_before_they_try(
    fleet, measuring, good, host, told
):
    fleet.add("arch", arch="riscv64")
    fleet.add("features", cpu_features=[])
    fleet.wait_for(1, "arch"), fleet.wait_for(1, "features")
    for key, reason in (
        ("arch", f"it runs linux on riscv64, and {host.name} is"),
        ("features", "its CPU has not"),
    ):
        with pytest.raises(FleetError, match=f"no board of it can be used: .*{reason}"):
            measuring(fleet, key).measure(request(good, host), 60)
    assert ["is left out: it" in note for note in told] == [True, True]


def test_board_that_stops_answering_gives_its_candidate_to_another(fleet, measuring, good, host):
    stopped, _ = fleet.add(), fleet.add()
    fleet.wait_for(2)
    fleet.signal(stopped, signal.SIGSTOP)
    outcomes = list(
        measuring(fleet, board_seconds=4.0).measure_each((request(good, host), 60) for _ in "1234")
    )
    assert all(isinstance(outcome, Timed) for _, outcome in outcomes)
    assert not {outcome.board for _, outcome in outcomes} & {f"127.0.0.1:{stopped}"}


def test_board_serves_on_after_code_that_crashed(fleet, measuring, good, host):
    fleet.add()
    fleet.wait_for(1)
    crash_a_session(fleet, host)
    assert isinstance(measuring(fleet).measure(request(good, host), 60), Timed)


def test_tracker_that_vanishes_is_an_error_once_boards_are_gone(fleet, measuring, good, host):
    port = fleet.add()
    fleet.wait_for(1)
    measurer = measuring(fleet, wait_seconds=3.0)
    measurer.measure(request(good, host), 60)
    os.killpg(fleet.tracker.pid, signal.SIGKILL)
    assert isinstance(measurer.measure(request(good, host), 60), Timed)  # it has a session still
    fleet.signal(port, signal.SIGKILL)
    with pytest.raises(FleetError, match=r"the tracker does not answer.*what was measured is kept"):
        measurer.measure(request(good, host), 60)


def test_gpus_are_refused(host):
    settings = FleetSettings(Address("127.0.0.1", 1), KEY)
    with pytest.raises(UnsupportedError, match="cuda-sm80: only CPUs"):
        FleetMeasurer(catalogue.get("cuda-sm80"), 1, settings)


@pytest.mark.parametrize("at_once", [False, True], ids=["later", "at once"])
def test_candidate_is_not_to_blame_for_boards_that_vanish(
    at_once, fleet, measuring, good, host, monkeypatch
):
    """One board is killed again and again under one candidate, more often than candidates may crash; and comes back."""
    if at_once:
        monkeypatch.setattr(measurer_module, "listens", lambda _: True)
    port = fleet.add()
    measurer = measuring(fleet, wait_seconds=60.0)
    give = measurer._give
    given = []

    def give_and_kill(lane, job):
        done = give(lane, job)
        given.append(job)
        if len(given) <= 4:
            fleet.signal(port, signal.SIGKILL)
            fleet.add(port=port)
        return done

    measurer._give = give_and_kill
    assert isinstance(measurer.measure(request(good, host, seconds=1.0), 60), Timed)
    assert len(given) == 5


def crash_a_session(fleet, host):
    """Run code on a board that ends its process."""
    import tvm
    from tvm import rpc
    from tvm.script import tirx as T

    from tvm_conv3dt.compiler.linker import link
    from tvm_conv3dt.compiler.target import target_of

    @T.prim_func
    def crash(n: T.int32):
        T.evaluate(T.call_extern("int32", "abort"))

    module = tvm.compile(
        tvm.IRModule({"crash": crash.with_attr("global_symbol", "crash")}), target=target_of(host)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "crash.so"
        module.export_library(
            str(path), fcompile=lambda output, objects, **_: link(objects, Path(output), host)
        )
        session = rpc.connect_tracker(fleet.address.host, fleet.address.port).request(KEY)
        session.upload(str(path))
        with pytest.raises(Exception):
            session.load_module("crash.so")["crash"](1)
