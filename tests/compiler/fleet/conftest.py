"""Boards on loopback."""

import pytest

pytest.importorskip("tvm")
pytest.importorskip("tornado")

from .loopback import LoopbackFleet


@pytest.fixture
def fleet():
    """A tracker of its own, without boards."""
    made = LoopbackFleet()
    yield made
    made.close()
