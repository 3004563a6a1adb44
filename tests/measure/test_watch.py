"""Is a turn taken again while, and only while, others have a part of the machine?"""

import pytest

from tvm_conv3dt.measure import watch
from tvm_conv3dt.measure.watch import ENOUGH, Watch


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
    assert [watch.take(machine.turn) for _ in range(4)] == [(n, True) for n in (1, 2, 3, 4)]
    assert (watch.taken, watch.quiet) == (4, 4)


@pytest.mark.parametrize(
    ("slow", "taken"),
    [
        ((0, 5), 1),  # before the first turn: it is waited for
        ((1, 5), 2),  # after it
        ((20, 30), 1),  # much later
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["fma", "bfloat16"])
def test_turn_beside_a_disturbance_is_taken_again(slow, taken, name, watched):
    def rates(now):
        share = 0.5 if slow[0] <= now < slow[1] else 1.0
        return {"fma": 3.0, "bfloat16": 7.0, name: 9.0 * share}

    machine, watch = watched(rates)
    machine.now = -1.0
    watch.take(machine.turn)  # knows what is the best
    machine.answers = watch.taken = watch.quiet = 0
    machine.now = 0.0
    watch.renew()
    assert watch.take(machine.turn) == (taken, True)
    assert (watch.taken, watch.quiet) == (taken, 1)


@pytest.mark.parametrize(("idle", "probes"), [(0, 1), (1, 2)])
def test_one_probe_between_two_turns_does(idle, probes, watched):
    machine, watch = watched(lambda now: {"fma": 1.0})
    watch.take(machine.turn)
    found = []
    watch._probe = lambda: found.append(machine.now) or {"fma": 1.0}
    machine.now += idle
    watch.take(machine.turn)
    assert len(found) == probes


@pytest.mark.parametrize(("share", "taken"), [(ENOUGH * 1.01, 1), (ENOUGH * 0.99, 2)])
def test_clocks_may_vary(share, taken, watched):
    machine, watch = watched(lambda now: {"fma": share if now == 1 else 1.0})
    watch.take(machine.turn)
    assert watch.taken == taken


def test_each_turn_has_half_of_the_patience_that_is_left(watched):
    machine, watch = watched(lambda now: {"fma": 1.0 if now < 1 else 0.1}, patience=64)
    for _ in range(2):
        for share in (32, 16, 8):
            start = machine.now
            answer, quiet = watch.take(machine.turn)
            assert (answer, quiet) == (machine.answers, False)
            assert share - 2 <= machine.now - start <= share + 2
        watch.renew()
    assert watch.quiet == 0


def test_what_was_long_ago_is_forgotten(watched):
    """A CPU that was cool at first clocks lower for the rest of the day."""
    machine, watch = watched(lambda now: {"fma": 1.0 if now < 1 else 0.5}, patience=10)
    found = [watch.take(machine.turn)[1] for _ in range(600)]  # a second each
    assert not found[500]
    watch.renew()
    assert watch.take(machine.turn)[1]


def test_final_answer_stands(watched):
    machine, watch = watched(lambda now: {"fma": 1.0 if now < 1 else 0.1})
    assert watch.take(machine.turn, final=lambda answer: True) == (1, True)
    assert watch.taken == 1


def test_nothing_to_probe_is_no_disturbance(watched):
    machine, watch = watched(lambda now: {})
    assert watch.take(machine.turn) == (1, True)
    assert watch.taken == 1
