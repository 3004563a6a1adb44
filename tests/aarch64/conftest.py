"""An aarch64 machine: this one where it is that, else an emulated one."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import cpu, paths

from .root import Unavailable, prepare


@dataclass(frozen=True)
class Machine:
    """How programs are run on it.

    Attributes
    ----------
    python : list of str
        The command that starts its Python, which has NumPy, apache-tvm-ffi and ml_dtypes.
    environment : dict of str to str
        What that needs.
    site : Path
        Where its packages are.
    emulator : list of str
        What comes before a program; nothing where it is this machine.
    """

    python: list[str]
    environment: dict[str, str]
    site: Path
    emulator: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def machine() -> Machine:
    if cpu.architecture() == "aarch64":
        import tvm_ffi

        site = Path(tvm_ffi.__file__).parents[1]
        return Machine([sys.executable], {**os.environ, "PYTHONPATH": ""}, site)
    try:
        root = prepare(paths.user_cache())
    except Unavailable as error:
        pytest.skip(f"no aarch64 machine can be emulated: {error}")
    *emulator, _ = root.python
    # Nothing of this machine's: its packages are for another architecture.
    return Machine(root.python, {"PYTHONPATH": str(root.site)}, root.site, emulator)
