"""Scheduled functions for CUDA as functions of NumPy arrays, executed on the CPU.

    emulated = Emulated.of(schedule.mod, target)
    emulated["main"](a, b, c)

All blocks of a launch and all threads of a block are executed, by the source that a GPU would get. Blocks that run at
the same time do so in copies of the library, each with its own shared memory. What a block reads before it is
written is NaN: shared memory, and workspaces. Arrays are used where they lie, so they may lie beside guard pages.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.target import Target

from .compiling import compile_source
from .lowering import SM_80, HostFunction, Launch, Lowered, lower

__all__ = ["ORDERS", "Emulated", "LaunchError"]

ORDERS = ("forward", "reverse")
"""In which order the threads of a block are executed between two barriers."""

_POISON = 0xFF  # NaN in every float format


class LaunchError(RuntimeError):
    """A kernel did what it must not do on a GPU."""


class _Dim3(ctypes.Structure):
    _fields_ = (("x", ctypes.c_uint), ("y", ctypes.c_uint), ("z", ctypes.c_uint))


class _Launch(ctypes.Structure):
    _fields_ = (
        ("grid", _Dim3),
        ("block", _Dim3),
        ("first", ctypes.c_ulonglong),
        ("step", ctypes.c_ulonglong),
        ("reversed", ctypes.c_int),
    )


@dataclass(frozen=True)
class Emulated:
    """The functions of a module, compiled from its CUDA C.

    Attributes
    ----------
    source : str
        The CUDA C.
    functions : dict of str to HostFunction
        What each function launches.
    """

    lowered: Lowered
    arch: str
    compiler: tuple[str, ...] | None
    _copies: list[Any] = field(repr=False, compare=False)

    @classmethod
    def of(
        cls,
        module: tvm.IRModule | tirx.PrimFunc,
        target: Target = SM_80,
        pipeline: str | None = None,
        compiler: tuple[str, ...] | None = None,
    ) -> Emulated:
        """Lower a scheduled module for `target` by `pipeline`, and compile what comes of it.

        Raises
        ------
        ValueError
            If a host function does more than launch kernels.
        RuntimeError
            If the source uses what is not defined here.
        """
        return cls.from_lowered(
            lower(module, target, pipeline), str(target.attrs["arch"]), compiler
        )

    @classmethod
    def from_lowered(
        cls, lowered: Lowered, arch: str = "sm_80", compiler: tuple[str, ...] | None = None
    ) -> Emulated:
        """Compile source and launches that are there already."""
        kernels = {launch.kernel for each in lowered.functions.values() for launch in each.launches}
        library = compile_source(lowered.source, kernels, arch, compiler)
        return cls(lowered, arch, compiler, _load_copies(library))

    @property
    def source(self) -> str:
        return self.lowered.source

    @property
    def functions(self) -> dict[str, HostFunction]:
        return self.lowered.functions

    def with_source(self, source: str) -> Emulated:
        """Return the same functions, with kernels from another source."""
        return self.from_lowered(replace(self.lowered, source=source), self.arch, self.compiler)

    def __getitem__(self, name: str) -> Function:
        return Function(self, name)


@dataclass(frozen=True)
class Function:
    """One function of a module."""

    of: Emulated
    name: str

    def __call__(
        self, *arrays: np.ndarray, order: str = "forward", last: int | None = None
    ) -> None:
        """Launch the function's kernels on the memory of `arrays`.

        Parameters
        ----------
        *arrays : numpy.ndarray
            As the function's parameters; bfloat16 also as uint16.
        order : str
            ``"forward"`` or ``"reverse"``: where the results differ, a barrier is missing.
        last : int, optional
            How many blocks of each launch to execute, from its end; all by default.

        Raises
        ------
        ValueError
            If an array does not fit its parameter.
        LaunchError
            If threads part at a barrier, or an address is not aligned as a GPU needs it.
        """
        if order not in ORDERS:
            raise ValueError(f"order {order} is none of {', '.join(ORDERS)}")
        function = self.of.functions[self.name]
        _check(function, arrays)
        workspaces = [np.full(size, _POISON, np.uint8) for size in function.workspaces]
        memory = {"parameter": arrays, "workspace": workspaces}
        for launch in function.launches:
            values = [
                memory[each[0]][each[1]].ctypes.data if isinstance(each, tuple) else each
                for each in launch.arguments
            ]
            self._launch(launch, values, order, last)

    def _launch(
        self, launch: Launch, values: list[int | float], order: str, last: int | None
    ) -> None:
        copies = self.of._copies
        cells = [
            ctypes.c_float(each) if isinstance(each, float) else ctypes.c_longlong(each)
            for each in values
        ]
        arguments = (ctypes.c_void_p * len(cells))(*(ctypes.addressof(cell) for cell in cells))
        start = 0 if last is None else max(0, prod(launch.grid) - last)

        def run(number: int) -> str | None:
            call = getattr(copies[number], f"launch_{launch.kernel}")
            call.restype = ctypes.c_char_p
            first, step = start + number, len(copies)
            how = _Launch(
                _Dim3(*launch.grid), _Dim3(*launch.block), first, step, order == "reverse"
            )
            error = call(ctypes.byref(how), arguments)
            return error.decode() if error else None

        with ThreadPoolExecutor(len(copies)) as pool:
            errors = [each for each in pool.map(run, range(len(copies))) if each]
        if errors:
            raise LaunchError(f"{launch.kernel}: {errors[0]}")


def _load_copies(library: Path) -> list[ctypes.CDLL]:
    """Load a library once for each core: what is static in it is then each core's own."""
    copies = []
    for _ in range(len(os.sched_getaffinity(0))):
        with tempfile.NamedTemporaryFile(suffix=".so") as copy:
            shutil.copyfile(library, copy.name)
            copies.append(ctypes.CDLL(copy.name))
    return copies


def _check(function: HostFunction, arrays: tuple[np.ndarray, ...]) -> None:
    if len(arrays) != len(function.parameters):
        raise ValueError(f"{len(arrays)} arrays for {len(function.parameters)} parameters")
    for parameter, array in zip(function.parameters, arrays, strict=True):
        taken = {parameter.dtype, "uint16" if parameter.dtype == "bfloat16" else parameter.dtype}
        if array.shape != parameter.shape or str(array.dtype) not in taken:
            raise ValueError(
                f"an array of {array.shape} {array.dtype} for {parameter.name}, which is of "
                f"{parameter.shape} {parameter.dtype}"
            )
        if not array.flags.c_contiguous:
            raise ValueError(f"the array for {parameter.name} has gaps")
