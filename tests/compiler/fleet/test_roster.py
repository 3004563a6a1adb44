"""Is a board left out when it fails, and not when a candidate does?"""

from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt.compiler.fleet.board import Board
from tvm_conv3dt.compiler.fleet.roster import Roster
from tvm_conv3dt.compiler.fleet.tracker import Address

BOARD = Board("pi5", "Raspberry Pi 5", "linux", "aarch64", (), 4, "0.27.0", server="first")
ONE, OTHER = Address("one", 1), Address("other", 1)


@pytest.fixture
def told():
    return []


@pytest.fixture
def roster(told):
    return Roster(told.append)


def test_board_that_fails_with_different_candidates_is_left_out(roster, told):
    for candidate in range(4):
        assert roster.left_out == {}
        roster.fail(ONE, candidate, "gone")
    assert list(roster.left_out) == [ONE]
    assert told == ["board one:1 is left out: it failed 4 times in a row, last: gone"]


def test_candidate_that_fails_again_and_again_is_not_the_boards_fault(roster):
    for _ in range(9):
        roster.fail(ONE, "the same", "gone")
    assert roster.left_out == {}


def test_board_that_cannot_be_joined_again_and_again_is_left_out(roster):
    for _ in range(4):
        roster.fail(ONE, None, "no answer")
    assert list(roster.left_out) == [ONE]


def test_finished_candidate_forgives(roster):
    for candidate in range(9):
        roster.fail(ONE, candidate, "gone")
        roster.finish(ONE)
    assert roster.left_out == {}
    assert roster.finished == {ONE: 9}


def test_others_are_not_blamed(roster):
    for candidate in range(3):
        roster.fail(ONE, candidate, "gone")
        roster.fail(OTHER, candidate, "gone")
    assert roster.left_out == {}


def test_each_board_that_is_left_out_is_told_once_with_its_reason(roster, told):
    roster.leave_out(ONE, "it is a toaster")
    roster.leave_out(ONE, "it is another toaster")
    assert roster.reasons() == "one:1: it is a toaster"
    assert len(told) == 1


def test_server_that_was_started_again_is_another(roster):
    roster.join(ONE, BOARD)
    assert not roster.restarted(ONE, BOARD)
    roster.join(OTHER, replace(BOARD, server="of the other"))
    assert not roster.restarted(ONE, BOARD)
    roster.join(ONE, replace(BOARD, server="second"))
    assert roster.restarted(ONE, BOARD)


@pytest.mark.parametrize("about", [None, replace(BOARD, server="")], ids=["stock", "earlier"])
def test_server_that_does_not_say_which_it_is_was_not_started_again(roster, about):
    roster.join(ONE, about)
    assert not roster.restarted(ONE, about)
    assert not roster.restarted(None, None)
