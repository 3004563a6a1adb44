"""What a board says of itself, and whether candidates for a device can run on it."""

from __future__ import annotations

import json
import platform
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from uuid import uuid4

from tvm_conv3dt import cpu, threads, tile_state
from tvm_conv3dt.device import Device

__all__ = ["ABOUT", "USE_THREADS", "Board", "this_board"]

ABOUT = "tvm_conv3dt.about_board"
"""The global function of a board's server that returns `Board.to_json`."""

USE_THREADS = "tvm_conv3dt.use_threads"
"""The global function of a board's server that sets the number of threads of candidates."""

_MODEL = Path("/proc/device-tree/model")
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Board:
    """What a board says of itself.

    Attributes
    ----------
    name : str
        Its host name.
    model : str
        What it is, for people: ``"Raspberry Pi 4 Model B Rev 1.4"``, or its CPU's name.
    os, arch, cpu_features
        As those of a `Device`.
    threads : int
        That may run at once.
    tvm : str
        The version of its TVM.
    server : str
        What tells this start of its server from all others; empty where it does not say.
    """

    name: str
    model: str
    os: str
    arch: str
    cpu_features: tuple[str, ...]
    threads: int
    tvm: str
    server: str = ""

    def to_json(self) -> str:
        """Return it as a board sends it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Board:
        """Return what a board sent; fields of a later version are passed over, and of an earlier one may be missing.

        Raises
        ------
        ValueError
            If it is something else.
        """
        values = json.loads(text)
        try:
            known = {
                each.name: values[each.name]
                for each in fields(cls)
                if each.default is MISSING or each.name in values
            }
            return cls(**{**known, "cpu_features": tuple(known["cpu_features"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"no description of a board: {text[:80]}") from error

    def why_unfit(self, device: Device, count: int, tvm: str) -> str:
        """Return why candidates for `device` on `count` threads, made by TVM `tvm`, cannot run on it; empty if they can."""
        missing = sorted(set(device.cpu_features) - set(self.cpu_features))
        if (self.os, self.arch) != (device.os, device.arch):
            return f"it runs {self.os} on {self.arch}, and {device.name} is {device.os} on {device.arch}"
        if missing:
            return f"its CPU has not {', '.join(missing)}, which code for {device.name} needs"
        if self.threads < count:
            return f"{self.threads} threads may run on it, and candidates use {count}: give --threads {self.threads}"
        if self.tvm != tvm:
            return f"it has TVM {self.tvm}, and here is {tvm}: install the same on both"
        return ""


def this_board(tvm: str) -> Board:
    """Return what this machine is, as a board with TVM `tvm`; its kernel is asked for the matrix unit, where there is one."""
    features = cpu.features()
    if tile_state.FEATURE in features and tile_state.refusal():
        features -= {tile_state.FEATURE}
    return Board(
        name=platform.node(),
        model=_model(),
        os=platform.system().lower(),
        arch=cpu.architecture(),
        cpu_features=tuple(sorted(features)),
        threads=threads.available(),
        tvm=tvm,
        server=uuid4().hex,
    )


def _model() -> str:
    """Return the board's model where the firmware tells it, else the CPU's, else the architecture."""
    try:
        return _MODEL.read_text(encoding="utf-8").strip("\0 \n")
    except OSError:
        pass
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    pairs = (line.partition(":") for line in lines)
    found = (value.strip() for name, _, value in pairs if name.strip() == "model name")
    return next(found, platform.machine())
