"""Tuning logs: the raw evidence of one workload on one device, in a folder of its own.

``tuning_logs/<device>/<workload id>/`` holds MetaSchedule's database and a ``run.json``. The database
does not know what it was measured on, and answers for any target: so the folder is the key, and
``run.json`` says whether it may be used here. One process at a time writes to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tvm.s_tir import meta_schedule as ms

from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.signature import check_signature, signature
from tvm_conv3dt.compiler.spaces.point import formulations_in
from tvm_conv3dt.compiler.spaces.space import space_of
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import FileFormatError, FileWriteError, TuningError, describe
from tvm_conv3dt.files import read_json, write_atomic, write_json
from tvm_conv3dt.spec import Workload

__all__ = ["SCHEMA", "TuningLog"]

SCHEMA = 1


class TuningLog:
    """The log of one workload on one device.

    Parameters
    ----------
    folder : Path
        Folder of tuning logs.
    device, workload
        Whose log it is.
    """

    def __init__(self, folder: Path, device: Device, workload: Workload) -> None:
        self.device = device
        self.workload = workload
        self.path = folder / device.name / workload.id

    @property
    def exists(self) -> bool:
        """Whether there is anything to read."""
        return self._run_file.is_file()

    @property
    def _run_file(self) -> Path:
        return self.path / "run.json"

    @property
    def _records_file(self) -> Path:
        return self.path / "database_tuning_record.json"

    @property
    def _workload_file(self) -> Path:
        return self.path / "database_workload.json"

    @property
    def _mend(self) -> str:
        return f"remove {self.path} and tune again"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the log as its only writer.

        Raises
        ------
        TuningError
            If another process holds it.
        FileWriteError
            If the folder cannot be written.
        """
        lock = FileLock(self.path / ".lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout as error:
            rule = "another process is tuning this workload into the same folder"
            mend = "wait for it, or choose another folder with --logs"
            raise TuningError(
                describe("write", "tuning log", str(self.path), rule, mend)
            ) from error
        except OSError as error:
            mend = "choose another folder with --logs"
            raise FileWriteError(
                describe("write", "tuning log", str(self.path), str(error), mend)
            ) from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep others from writing while the log is read; one that nobody may write needs no lock.

        Raises
        ------
        TuningError
            If another process writes to it.
        """
        if os.access(self.path, os.W_OK):
            with self.writing():
                yield
        else:
            yield

    def database(self) -> ms.database.JSONDatabase:
        """Open the database; a record that a killed process left unfinished is dropped.

        Raises
        ------
        FileFormatError
            If it is damaged otherwise.
        SignatureError
            If it is of another TVM, definition or device.
        """
        if self.exists:
            self._check()
        elif self._records_file.is_file() and self._records_file.stat().st_size:
            rule = "it has records and no run.json, which says what they were measured on"
            raise FileFormatError(describe("read", "tuning log", str(self.path), rule, self._mend))
        for file in (self._records_file, self._workload_file):
            _drop_unfinished_line(file)
        self._register_intrinsics(self._checked_records())
        try:
            return ms.database.JSONDatabase(str(self._workload_file), str(self._records_file))
        except (ValueError, RuntimeError, TypeError) as error:
            rule = f"TVM cannot read it: {str(error).strip().splitlines()[-1]}"
            raise FileFormatError(
                describe("read", "tuning log", str(self.path), rule, self._mend)
            ) from error

    def runs(self) -> list[dict[str, Any]]:
        """Return what each tuning run into this log was, oldest first."""
        if not self.exists:
            return []
        runs = self._check()["runs"]
        return list(runs)

    def write_runs(self, runs: list[dict[str, Any]]) -> None:
        """Write ``run.json``."""
        write_json(
            self._run_file,
            {
                "schema": SCHEMA,
                "signature": signature(),
                "device": self.device.name,
                "id": self.workload.id,
                "workload": self.workload.to_dict(),
                "runs": runs,
            },
        )

    def prune(self, keep: int) -> None:
        """Keep the `keep` fastest records, and of the definitions, one for each layout, none after the last that they need.

        Records name definitions by their lines: so those keep their places, and a crash between the two files does no harm.
        """
        lines = self._records_file.read_text(encoding="utf-8").splitlines()
        lines.sort(key=lambda line: _median(json.loads(line)[1][1]))
        del lines[keep:]
        write_atomic(self._records_file, "".join(f"{line}\n" for line in lines))
        last = max((int(json.loads(line)[0]) for line in lines), default=-1)
        definitions = self._workload_file.read_text(encoding="utf-8").splitlines()[: last + 1]
        write_atomic(self._workload_file, "".join(f"{line}\n" for line in definitions))

    def _register_intrinsics(self, records: str) -> None:
        """Make known to TVM what traces may name, or it reads none that does: of what is offered, or was."""
        space = space_of(self.device)
        offered = {each.formulation for each in space.default_points(self.workload, self.device)}
        for name in offered | formulations_in(records):
            try:
                layout = space.layout_of(self.workload, self.device, name)
            except ValueError as error:
                rule = f"its formulation {name} is none that this version knows"
                raise FileFormatError(
                    describe("read", "tuning log", str(self._records_file), rule, self._mend)
                ) from error
            kernel.register_intrinsics(layout)

    def _check(self) -> dict[str, Any]:
        values = read_json(self._run_file, SCHEMA)
        check_signature(
            self._run_file,
            values.get("signature"),
            self.device.name,
            values.get("device"),
            self._mend,
        )
        if values.get("id") != self.workload.id or not _are_runs(values.get("runs")):
            rule = "its fields are not those of this workload's run"
            raise FileFormatError(
                describe("read", "tuning log", str(self._run_file), rule, self._mend)
            )
        return values

    def _checked_records(self) -> str:
        """Return the text of all records; nothing where there are none."""
        # TVM 0.27 checks most of a record, and crashes on a line that is no list and on times that are no numbers.
        if not self._records_file.is_file():
            return ""
        text = self._records_file.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                _, (_, seconds, _, _) = json.loads(line)
                damaged = not seconds or not all(isinstance(each, int | float) for each in seconds)
            except (ValueError, TypeError):
                damaged = True
            if damaged:
                value = f"{self._records_file}, line {number}"
                mend = "remove that line, or the log, and tune again"
                raise FileFormatError(
                    describe("read", "tuning log", value, "it is not a record with its times", mend)
                )
        return text


def _are_runs(values: object) -> bool:
    """Whether what was read lists runs, as far as others ask for their fields."""
    return isinstance(values, list) and all(
        isinstance(each, dict) and isinstance(each.get("trials"), int) for each in values
    )


def _median(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) // 2]


def _drop_unfinished_line(file: Path) -> None:
    # Records are appended one line each; whoever was killed in the middle of one left it unended.
    if file.is_file():
        content = file.read_bytes()
        if content and not content.endswith(b"\n"):
            write_atomic(file, content[: content.rfind(b"\n") + 1])
