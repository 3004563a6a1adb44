"""The scripts of a GPU session, as modules: they are no part of the package."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "gpu_session"


@pytest.fixture
def script(monkeypatch):
    """Imports one of the scripts, which find each other in their folder."""

    def load(name):
        monkeypatch.syspath_prepend(str(FOLDER))
        for module in ("environment", "steps", "verbs", "session", "pack"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        return importlib.import_module(name)

    return load
