"""Times in turns, on a clock that the test moves."""

import gc

import pytest

from tvm_conv3dt.measure import timing
from tvm_conv3dt.measure.timing import Timing, interleave, turn


class Clock:
    """A clock that stands until a callable takes its time."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def taking(self, name, *seconds):
        durations = list(seconds)

        def call():
            self.calls.append(name)
            self.now += durations.pop(0) if len(durations) > 1 else durations[0]

        return call


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    return clock


def test_quartiles_are_those_of_the_samples():
    assert Timing.of([4.0, 1.0, 3.0, 2.0, 5.0]) == Timing(3.0, 2.0, 4.0, 1.0, 5)


def test_one_sample_is_all_quartiles():
    assert Timing.of([2.0]) == Timing(2.0, 2.0, 2.0, 2.0, 1)


def test_spread_is_the_share_between_the_quartiles():
    assert Timing(2.0, 1.5, 2.5, 1.0, 9).spread == 0.5


def test_each_callable_gets_its_own_time(clock):
    functions = {"slow": clock.taking("slow", 2.0), "fast": clock.taking("fast", 0.5)}
    found = interleave(functions, seconds=0)
    assert list(found) == ["slow", "fast"]
    assert (found["slow"].median, found["fast"].median) == (2.0, 0.5)


def test_warming_up_does_not_count(clock):
    found = interleave({"a": clock.taking("a", 9.0, 8.0, 1.0)}, seconds=0)
    assert found["a"] == Timing(1.0, 1.0, 1.0, 1.0, 5)


def test_rounds_take_turns_and_change_their_order(clock):
    functions = {name: clock.taking(name, 1.0) for name in "abc"}
    interleave(functions, seconds=0, min_rounds=3)
    assert "".join(clock.calls[6:]) == "abcbcacab"


def test_rounds_go_on_until_the_time_is_over(clock):
    found = interleave({"a": clock.taking("a", 1.0)}, seconds=20, min_rounds=3)
    assert found["a"].count == 20


def test_fast_callable_is_called_often_for_one_sample(clock):
    found = interleave({"a": clock.taking("a", 2.0**-12)}, seconds=0, min_rounds=2)
    assert found["a"].median == 2.0**-12
    assert len(clock.calls) == 2 + 2 * 5


def test_nothing_to_time_gives_nothing():
    assert interleave({}, seconds=1) == {}


def test_garbage_collection_rests_and_comes_back_after_a_failure(clock):
    def fail():
        raise RuntimeError(gc.isenabled())

    seen = []
    interleave({"a": lambda: seen.append(gc.isenabled())}, seconds=0, min_rounds=1)
    assert seen[-1] is False
    with pytest.raises(RuntimeError):
        interleave({"a": fail}, seconds=0)
    assert gc.isenabled()


def test_turn_wakes_up_before_it_counts(clock):
    assert turn(clock.taking("a", 9.0, 1.0), seconds=3) == [1.0, 1.0, 1.0]


def test_turn_has_a_sample_however_long_it_takes(clock):
    assert turn(clock.taking("a", 2.0), seconds=0) == [2.0]


def test_turn_calls_a_fast_callable_often_for_one_sample(clock):
    assert turn(clock.taking("a", 2.0**-12), seconds=0) == [2.0**-12]
    assert len(clock.calls) == 2 + 5


def test_turn_waits_for_queued_calls_once_a_sample(clock):
    queued = []

    def wait():
        clock.now += 2.0**-12 * len(queued)
        queued.clear()

    assert turn(lambda: queued.append(1), 0, wait) == [2.0**-12]
    waits = []
    turn(lambda: None, 0, lambda: (waits.append(1), wait()))
    assert len(waits) == 3  # to warm up, to know how long it takes, and for the sample
