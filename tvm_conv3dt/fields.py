"""Strict access to the fields of an object that was read from a JSON or TOML file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from tvm_conv3dt.errors import FileFormatError, describe, show

__all__ = ["Fields"]


class Fields:
    """The fields of one object of a file: each is taken once, with the type it must have.

    Every method raises `FileFormatError`, which names the file and the field, for a field that is missing
    or of another type. Call `finish` after the last one: it refuses fields that nothing took, which are
    misspelt, or mean something that this version would silently ignore.

    Parameters
    ----------
    path : path-like
        The file, for messages.
    values : object
        What was read; anything but an object is refused.
    where : str
        The place of the object in the file, such as ``"layers[2].library"``; empty for the top level.
    """

    def __init__(self, path: str | os.PathLike[str], values: object, where: str = "") -> None:
        self._path = path
        self._where = where
        if not isinstance(values, Mapping):
            raise self.refuse(where or "top level", values, "it must be an object")
        self._left: dict[str, Any] = dict(values)

    def text(self, name: str) -> str:
        """Take a string."""
        value = self._take(name)
        if not isinstance(value, str):
            raise self.refuse(name, value, "it must be a string")
        return value

    def optional_text(self, name: str) -> str | None:
        """Take a string, or null."""
        value = self._take(name)
        if value is not None and not isinstance(value, str):
            raise self.refuse(name, value, "it must be a string or null")
        return value

    def integer(self, name: str, minimum: int = 0) -> int:
        """Take an integer of at least `minimum`, and below 2**63."""
        return self._integer(name, self._take(name), minimum)

    def optional_number(self, name: str) -> float | None:
        """Take a finite number, or null."""
        value = self._take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.refuse(name, value, "it must be a number or null")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.refuse(name, value, "it must be finite")
        return number

    def texts(self, name: str) -> tuple[str, ...]:
        """Take a list of strings."""
        values = self._list(name)
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise self.refuse(f"{name}[{index}]", value, "it must be a string")
        return tuple(values)

    def integers(self, name: str, minimum: int = 0) -> tuple[int, ...]:
        """Take a list of integers of at least `minimum`."""
        values = self._list(name)
        return tuple(self._integer(f"{name}[{i}]", v, minimum) for i, v in enumerate(values))

    def child(self, name: str) -> Fields:
        """Take an object, as `Fields` of its own."""
        return Fields(self._path, self._take(name), self._at(name))

    def optional_child(self, name: str) -> Fields | None:
        """Take an object, as `Fields` of its own, or null."""
        value = self._take(name)
        return None if value is None else Fields(self._path, value, self._at(name))

    def children(self, name: str) -> tuple[Fields, ...]:
        """Take a list of objects."""
        values = self._list(name)
        return tuple(Fields(self._path, v, self._at(f"{name}[{i}]")) for i, v in enumerate(values))

    def mapping(self, name: str) -> dict[str, Any]:
        """Take an object whose fields somebody else checks."""
        value = self._take(name)
        if not isinstance(value, Mapping):
            raise self.refuse(name, value, "it must be an object")
        return dict(value)

    def finish(self) -> None:
        """Refuse the fields that nothing took."""
        if self._left:
            name = min(self._left)
            raise self.refuse(name, self._left[name], "no such field is known")

    def refuse(self, name: str, value: object, rule: str) -> FileFormatError:
        """Return the error that refuses this file because of the value of one field."""
        place = self._at(name)
        return FileFormatError(
            describe("read", f"file {self._path}", f"{place}={show(value)}", rule)
        )

    def _at(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where and name != self._where else name

    def _take(self, name: str) -> Any:
        if name not in self._left:
            raise FileFormatError(
                describe("read", f"file {self._path}", self._at(name), "the field is missing")
            )
        return self._left.pop(name)

    def _list(self, name: str) -> list[Any]:
        value = self._take(name)
        if not isinstance(value, list):
            raise self.refuse(name, value, "it must be a list")
        return value

    def _integer(self, name: str, value: object, minimum: int) -> int:
        if type(value) is not int:  # a bool is an int to isinstance
            raise self.refuse(name, value, "it must be an integer")
        if not minimum <= value < 2**63:
            raise self.refuse(name, value, f"it must be at least {minimum} and below 2**63")
        return value
