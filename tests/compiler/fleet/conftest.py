"""Boards on loopback."""

import pytest

pytest.importorskip("tvm")

from .loopback import LoopbackFleet


@pytest.fixture
def fleet():
    """A tracker of its own, without boards."""
    pytest.importorskip("tornado")  # TVM's tracker is of it
    made = LoopbackFleet()
    yield made
    made.close()
