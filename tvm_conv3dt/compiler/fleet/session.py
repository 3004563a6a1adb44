"""A session with a board: candidates are sent there as shared libraries, checked exactly, and timed."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import rpc

from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.fleet.board import ABOUT, USE_THREADS, Board
from tvm_conv3dt.compiler.fleet.messages import Join
from tvm_conv3dt.compiler.kernel import Kernel
from tvm_conv3dt.compiler.schedule import apply_trace
from tvm_conv3dt.compiler.search.measurer import Candidate, Failure, Request, Timed
from tvm_conv3dt.compiler.search.worker import calls_in_a_block, check, timed_in_turns
from tvm_conv3dt.device import Device
from tvm_conv3dt.memory import stored
from tvm_conv3dt.reference import integer_data, reference, rounded
from tvm_conv3dt.spec import Workload

__all__ = ["Library", "Session", "UnfitBoardError", "build"]

# Promotion measures a few candidates over and over, in turns, and a search has its baseline.
_KEPT = 8


class UnfitBoardError(Exception):
    """The board cannot run code for the device."""


@dataclass(frozen=True)
class Library:
    """A candidate as it is sent: compiled and linked here."""

    built: Kernel
    content: bytes


def build(candidate: Candidate, device: Device) -> Library:
    """Compile and link a candidate for a board.

    Raises
    ------
    CompileError, SignatureError
        If TVM does not take it.
    CompilerMissingError
        If nothing links for the board.
    """
    workload = candidate.layout.workload
    sch = kernel.new_schedule(candidate.layout)
    apply_trace(sch, candidate.trace, workload)
    built = kernel.compile_kernel(candidate.layout, device, sch)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "candidate.so"
        kernel.export(built, path)
        return Library(built, path.read_bytes())


@dataclass(frozen=True)
class _Data:
    """A workload's arrays on the board, and what must come out."""

    workload: Workload
    inputs: tuple[Any, ...]  # x, and the bias where there is one
    filters: Any
    poison: Any
    result: Any
    expected: np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Ready:
    """A candidate on the board, with packed filters."""

    library: Library
    module: Any
    arguments: tuple[Any, ...]

    def run(self) -> None:
        """Call it once."""
        self.module[self.library.built.workload.id](*self.arguments)

    def times(self, calls: int) -> list[float]:
        """Time calls in a row, after one that does not count, by the board's clock."""
        name = self.library.built.workload.id
        timer = self.module.time_evaluator(name, self.arguments[0].device, number=1, repeat=calls)
        return [float(each) for each in timer(*self.arguments).results]


class Session:
    """A session with one board; any error of TVM's in its methods may mean that it is gone: `alive` tells.

    Raises
    ------
    UnfitBoardError
        If the board cannot run the device's code.
    RuntimeError
        If the board does not answer.
    """

    def __init__(self, join: Join) -> None:
        board = join.grant.board
        self._remote = rpc.connect(board.host, board.port, join.grant.match_key, join.seconds)
        self._board = str(board)
        self._cpu = self._remote.cpu()
        self._data: _Data | None = None
        self._ready: OrderedDict[tuple[Any, str], _Ready] = OrderedDict()
        self._numbers = itertools.count()
        self.about = self._about()
        if self.about is not None:
            reason = self.about.why_unfit(join.device, join.threads, tvm.__version__)
            if reason:
                raise UnfitBoardError(reason)
            self._remote.get_function(USE_THREADS)(join.threads)
        else:
            # The most that a server of TVM's own allows: see the board's TVM_NUM_THREADS.
            self._remote.get_function("runtime.config_threadpool")(-3, join.threads)

    def alive(self) -> bool:
        """Whether the board answers still."""
        try:
            self._remote.get_function("runtime.NumThreads")()
        except Exception:  # TVM raises its own kinds
            return False
        return True

    def measure(self, request: Request, library: Library, other: Library | None) -> Timed | Failure:
        """Verify and time a candidate in turns with the baseline `other`."""
        ready = self._prepared(request.candidate, library)
        baseline = None
        if request.baseline is not None and other is not None:
            baseline = self._prepared(request.baseline.candidate, other)
        workload = library.built.workload
        data = self._data_of(workload)
        data.poison.copyto(data.result)
        ready.run()
        found = data.result.numpy().view(workload.numpy_dtype)
        failure = check(workload, found, data.expected)
        if failure is not None:
            return failure
        workspace_bytes = library.built.workspace_bytes
        (first,) = ready.times(1)
        if first > request.give_up_seconds:
            return Timed((first,), workspace_bytes, self._board)
        calls = calls_in_a_block(first)
        times = timed_in_turns(
            request,
            lambda: ready.times(calls),
            None if baseline is None else lambda: baseline.times(calls),
        )
        return Timed(times, workspace_bytes, self._board)

    def _about(self) -> Board | None:
        try:
            function = self._remote.get_function(ABOUT)
        except AttributeError:  # a server of TVM's own
            return None
        return Board.from_json(str(function()))

    def _prepared(self, candidate: Candidate, library: Library) -> _Ready:
        key = candidate.layout, json.dumps(candidate.trace)
        if key not in self._ready:
            data = self._data_of(candidate.layout.workload)
            built = library.built
            name = f"candidate{next(self._numbers)}.so"
            self._remote.upload(bytearray(library.content), name)
            module = self._remote.load_module(name)
            self._remote.remove(name)
            packed = tvm.runtime.empty(built.packed_shape, built.packed_dtype, self._cpu)
            module[kernel.pack_symbol(built.workload)](data.filters, packed)
            x, *bias = data.inputs
            self._ready[key] = _Ready(library, module, (x, packed, *bias, data.result))
            while len(self._ready) > _KEPT:
                self._ready.popitem(last=False)
        self._ready.move_to_end(key)
        return self._ready[key]

    def _data_of(self, workload: Workload) -> _Data:
        """Return a workload's arrays on the board; they are sent once."""
        if self._data is None or self._data.workload != workload:
            self._ready.clear()
            self._data = None  # the board's memory is small: the old ones go first
            x, filters, bias = integer_data(workload, seed=0)
            nothing = np.full(workload.output_shape, np.nan, workload.numpy_dtype)
            self._data = _Data(
                workload=workload,
                inputs=tuple(self._sent(each) for each in (x, bias) if each is not None),
                filters=self._sent(filters),
                poison=self._sent(nothing),
                result=self._sent(nothing),
                expected=rounded(workload, reference(workload, x, filters, bias)),
            )
        return self._data

    def _sent(self, array: np.ndarray[Any, Any]) -> Any:
        return tvm.runtime.tensor(stored(array), self._cpu)
