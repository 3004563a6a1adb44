"""Implementations in turns: what is kept of each, whatever the others do."""

from pathlib import Path

import pytest

from tvm_conv3dt.errors import PlatformError
from tvm_conv3dt.measure import contest
from tvm_conv3dt.measure.comparison import OURS
from tvm_conv3dt.measure.contest import Contest
from tvm_conv3dt.measure.peers import Peer
from tvm_conv3dt.measure.peers.messages import Samples
from tvm_conv3dt.measure.watch import Turns, Watch
from tvm_conv3dt.spec import Workload

WORKLOAD = Workload.make([1, 2, 3, 2, 4], [3, 3, 3, 2, 4], [1, 4, 6, 4, 2], 2)


def fake(*arguments):
    return Peer("fake_peer", arguments=arguments)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "peers"), prepend=":")
    monkeypatch.setattr(contest, "_CEILING_SECONDS", 0.001)
    monkeypatch.setattr(contest, "Watch", lambda probe, patience: Watch(probe, min(patience, 0.1)))


def compare(ours=("right",), machine=("machine",), **peers):
    table = {name: fake(*words) for name, words in peers.items()}
    with Contest(fake(*ours), table, 2, fake(*machine)) as running:
        return running.layer("a/b", WORKLOAD, 10, 0.01), running.ceilings(), running.versions


def test_all_have_a_sample_of_every_round():
    found, ceilings, versions = compare(peer=("right",))
    kept = [(each.implementation, each.layout, each.output) for each in found.entries]
    assert kept == [
        (name, *variant)
        for name in (OURS, "peer")
        for variant in (("plain", "reused"), ("turned", "fresh"))
    ]
    assert all(each.timing.count >= contest.ROUNDS for each in found.entries)
    assert (found.name, found.workspace_bytes, found.failures) == ("a/b", 10, {})
    assert ceilings.threads == 2
    assert versions == {OURS: "1.2", "peer": "1.2"}


def test_failing_peers_leave_the_others_their_times():
    found, _, _ = compare(bad=("crash",), odd=("wrong",), late=("crash in a turn",), good=())
    assert {each.implementation for each in found.entries} == {OURS, "good"}
    kinds = {name: failure.kind for name, failure in found.failures.items()}
    assert kinds == {"bad": "SIGABRT", "odd": "wrong", "late": "SIGSEGV"}


def test_wrong_layout_is_kept_out_and_told():
    found, _, _ = compare(peer=("wrong layout",))
    assert found.best("peer").layout == "plain"
    assert found.failures["peer turned"].kind == "wrong"


def test_wrong_variant_of_ours_is_a_failure_of_the_layer():
    found, _, _ = compare(ours=("wrong layout",), peer=())
    assert found.failures[OURS].kind == "wrong"
    assert not found.entries


def test_nothing_is_compared_with_a_result_that_we_do_not_have():
    found, _, _ = compare(ours=("refuse",), peer=("right",))
    assert found.entries == ()
    assert {name: each.kind for name, each in found.failures.items()} == {
        OURS: "error",
        "peer": "not run",
    }


def test_ceilings_that_cannot_be_measured_are_an_error():
    with pytest.raises(PlatformError, match="failed to measure ceilings"):
        compare(machine=("refuse",))


def test_progress_is_told_with_its_implementation():
    told = []
    table = {"late": fake("slow", "0")}
    report = lambda *words: told.append(words)
    with Contest(fake("right"), table, 2, fake("machine"), report) as running:
        running.layer("a/b", WORKLOAD, 10, 0.01)
    assert told == [("late", f"step {place}") for place in range(4)]


def test_machine_is_measured_at_the_size_of_every_layer():
    other = Workload.make([1, 2, 2, 2, 4], [2, 2, 2, 2, 4], [1, 4, 4, 4, 2], 2)
    with Contest(fake("right"), {}, 2, fake("machine", "fma")) as running:
        for workload in (WORKLOAD, other):
            running.layer("a/b", workload, 10, 0.01)
        found = running.ceilings()
    assert set(found.move_gbs) == {WORKLOAD.id, other.id}
    assert found.fma_gflops > 0


@pytest.mark.parametrize("watched", [("fma", "bfloat16"), ("bfloat16",), ()], ids=str)
def test_turns_are_watched_by_what_the_machine_has(watched):
    peers = {"peer": fake("right")}
    with Contest(fake("right"), peers, 2, fake("machine", "fma"), watched=watched) as running:
        found = running.layer("a/b", WORKLOAD, 10, 0.01)
        turns = running.turns
    assert {each.implementation for each in found.entries} == {OURS, "peer"}
    assert turns.taken >= 4 * contest.ROUNDS + 5
    if "fma" not in watched:
        assert (turns.dropped, turns.disturbed) == (0, 0)


class Scripted:
    """A watch of which a test says what turns are quiet; they take one second, or two where they are disturbed."""

    def __init__(self, quiet):
        self.taken = self.quiet = 0
        self._flags = iter(quiet)

    def renew(self):
        pass

    def take(self, turn, final=None):
        quiet = next(self._flags)
        self.taken, self.quiet = self.taken + 1, self.quiet + quiet
        seconds = (1.0 if quiet else 2.0,)
        return Samples(seconds) if isinstance(turn(), Samples) else seconds, quiet


CEILINGS = [True] * 4  # the machine's turns, after those of the rounds


@pytest.mark.parametrize(
    ("rounds", "counting", "turns"),
    [
        # Of each of the four variants, round by round.
        ([[True] * 4] + 6 * [[False] * 4], [{1.0: 1}] * 4, Turns(32, 24, 0)),
        (
            [[True, False, True, False], [True, True, False, True]] + 5 * [[False] * 4],
            [{1.0: 2}, {1.0: 1}, {1.0: 1}, {1.0: 1}],
            Turns(32, 23, 0),
        ),
        (
            7 * [[True, True, True, False]],
            [{1.0: 7}, {1.0: 7}, {1.0: 7}, {2.0: 7}],
            Turns(32, 0, 7),
        ),
        (7 * [[False] * 4], [{2.0: 7}] * 4, Turns(32, 0, 28)),
    ],
    ids=["all at once", "in two rounds", "one never", "never"],
)
def test_quiet_turns_alone_count_where_everybody_has_one(rounds, counting, turns, monkeypatch):
    # Every round starts with another variant.
    flags = [each for n, row in enumerate(rounds) for each in row[n % 4 :] + row[: n % 4]]
    monkeypatch.setattr(contest, "Watch", lambda probe, patience: Scripted([*flags, *CEILINGS]))
    with Contest(fake("right"), {"peer": fake("right")}, 2, fake("machine")) as running:
        found = running.layer("a/b", WORKLOAD, 10, 0.01)
        assert running.turns == turns
    timings = [each.timing for each in found.entries]
    assert [{each.median: each.count} for each in timings] == counting
    assert found.disturbed is (turns.disturbed > 0)


def test_turns_of_an_earlier_pass_count(monkeypatch):
    first, second = 7 * [True, True, False, False], [True, False, True, True] + 24 * [False]
    flags = [each for n in range(7) for each in first[n % 4 : 4] + first[: n % 4]]
    script = [*flags, *CEILINGS, *second, *CEILINGS]
    monkeypatch.setattr(contest, "Watch", lambda probe, patience: Scripted(script))
    with Contest(fake("right"), {"peer": fake("right")}, 2, fake("machine")) as running:
        found = [running.layer("a/b", WORKLOAD, 10, 0.01) for _ in range(2)]
        assert running.turns == Turns(64, 14 + 25, 0)
    assert [each.disturbed for each in found] == [True, False]
    assert [each.timing.count for each in found[1].entries] == [8, 7, 1, 1]
    assert all(each.timing.q3 == 1.0 for each in found[1].entries)


@pytest.mark.parametrize(
    ("flags", "seconds", "turns"),
    [
        ([False, True, False], 1.0, Turns(3 * 32, 2, 0)),
        ([False, False, False], 2.0, Turns(3 * 32, 0, 3)),
    ],
    ids=["once", "never"],
)
def test_disturbed_ceiling_counts_until_there_is_a_quiet_one(flags, seconds, turns, monkeypatch):
    script = [each for copy in flags for each in (*[True] * 28, True, copy, True, True)]
    monkeypatch.setattr(contest, "Watch", lambda probe, patience: Scripted(script))
    with Contest(fake("right"), {"peer": fake("right")}, 2, fake("machine")) as running:
        for _ in flags:
            running.layer("a/b", WORKLOAD, 10, 0.01)
        assert running.turns == turns
        assert running.ceilings().copy_gbs == pytest.approx(1000 / seconds / 1e9)


def test_lost_worker_is_not_asked_again():
    """However disturbed the machine is."""
    peers = {"late": fake("crash in a turn")}
    with Contest(fake("right"), peers, 2, fake("machine", "fma"), watched=("fma",)) as running:
        found = running.layer("a/b", WORKLOAD, 10, 0.01)
    assert found.failures["late"].kind == "SIGSEGV"
