"""Is a turn taken again while, and only while, others have a part of the machine?"""

import itertools

import pytest

from tvm_conv3dt.measure import watch
from tvm_conv3dt.measure.watch import ENOUGH, Turns, Watch


class Machine:
    """A machine, and its clock, which only sleeping and turns move on: a second each."""

    def __init__(self, rates):
        self.now, self.rates, self.answers = 0.0, rates, 0

    def sleep(self, seconds):
        self.now += 1

    def turn(self):
        self.now += 1
        self.answers += 1
        return self.answers

    def probe(self):
        return self.rates(self.now)


@pytest.fixture
def watched(monkeypatch):
    def make(rates, patience=100.0):
        machine = Machine(rates)
        monkeypatch.setattr(watch.time, "monotonic", lambda: machine.now)
        monkeypatch.setattr(watch.time, "sleep", machine.sleep)
        return machine, Watch(machine.probe, patience)

    return make


def test_quiet_turns_are_taken_once(watched):
    machine, watch = watched(lambda now: {"fma": 5.0 - 0.1 * (now % 3)})
    assert [watch.take(machine.turn) for _ in range(4)] == [1, 2, 3, 4]
    assert watch.turns == Turns(taken=4)


@pytest.mark.parametrize(
    ("slow", "answer", "turns"),
    [
        ((0, 5), 1, Turns(1)),  # before the first turn: it is waited for
        ((1, 5), 2, Turns(2, dropped=1)),  # after it
        ((20, 30), 1, Turns(1)),  # much later
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["fma", "bfloat16"])
def test_turn_beside_a_disturbance_is_taken_again(slow, answer, turns, name, watched):
    def rates(now):
        share = 0.5 if slow[0] <= now < slow[1] else 1.0
        return {"fma": 3.0, "bfloat16": 7.0, name: 9.0 * share}

    machine, watch = watched(rates)
    machine.now = -1.0
    watch.take(machine.turn)  # knows what is the best
    machine.answers, watch.turns = 0, Turns()
    machine.now = 0.0
    watch.renew()
    assert watch.take(machine.turn) == answer
    assert watch.turns == turns


@pytest.mark.parametrize(("idle", "probes"), [(0, 1), (1, 2)])
def test_one_probe_between_two_turns_does(idle, probes, watched):
    machine, watch = watched(lambda now: {"fma": 1.0})
    watch.take(machine.turn)
    found = []
    watch._probe = lambda: found.append(machine.now) or {"fma": 1.0}
    machine.now += idle
    watch.take(machine.turn)
    assert len(found) == probes


@pytest.mark.parametrize(("share", "dropped"), [(ENOUGH * 1.01, 0), (ENOUGH * 0.99, 1)])
def test_clocks_may_vary(share, dropped, watched):
    machine, watch = watched(lambda now: {"fma": share if now == 1 else 1.0})
    watch.take(machine.turn)
    assert watch.turns.dropped == dropped


def test_patience_ends_and_is_renewed(watched):
    machine, watch = watched(lambda now: {"fma": 1.0 if now < 1 else 0.1}, patience=10)
    for count in (1, 2):
        assert watch.take(machine.turn) > 0
        assert watch.turns.disturbed == count
    assert 10 <= machine.now <= 13
    watch.renew()
    watch.take(machine.turn)
    assert 20 <= machine.now <= 25


def test_patience_is_shared_by_the_turns_to_come(watched):
    machine, watch = watched(lambda now: {"fma": 1.0 if now < 1 else 0.1}, patience=40)
    watch.take(machine.turn, final=lambda answer: True)
    watch.renew(4)
    ends = []
    for _ in range(4):
        watch.take(machine.turn)
        ends.append(machine.now)
    waits = [after - before for before, after in itertools.pairwise([1, *ends])]
    assert all(10 <= wait <= 13 for wait in waits), waits


def test_what_was_long_ago_is_forgotten(watched):
    """A CPU that was cool at first clocks lower for the rest of the day."""
    machine, watch = watched(lambda now: {"fma": 1.0 if now < 1 else 0.5}, patience=10)
    for _ in range(600):  # a second each
        watch.take(machine.turn)
    disturbed = watch.turns.disturbed
    assert disturbed > 0
    watch.renew()
    watch.take(machine.turn)
    assert watch.turns.disturbed == disturbed


def test_final_answer_stands(watched):
    machine, watch = watched(lambda now: {"fma": 1.0 if now < 1 else 0.1})
    assert watch.take(machine.turn, final=lambda answer: True) == 1
    assert watch.turns == Turns(taken=1)


def test_nothing_to_probe_is_no_disturbance(watched):
    machine, watch = watched(lambda now: {})
    assert watch.take(machine.turn) == 1
    assert watch.turns == Turns(taken=1)
