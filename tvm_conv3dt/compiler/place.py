"""Where a result that is computed by phases belongs."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Place"]


class Place(NamedTuple):
    """The place of one result, as expressions of a compiler.

    Attributes
    ----------
    n, w, c : expression
        Batch, position of the width and channel in the output.
    d, h : tuple of two expressions
        Position and phase of depth and height, whose sum is ``stride * position + phase``.
    exists : list of expression
        Conditions on width and channel under which there is such a place.
    """

    n: Any
    d: tuple[Any, Any]
    h: tuple[Any, Any]
    w: Any
    c: Any
    exists: list[Any]
