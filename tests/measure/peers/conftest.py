"""Makes the fake peer importable in worker processes."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
