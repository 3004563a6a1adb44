"""What the bench and its worker processes say to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tvm_conv3dt.spec import Workload

__all__ = ["Failure", "Prepare", "Prepared", "Progress", "Ready", "Samples", "Turn"]


@dataclass(frozen=True)
class Ready:
    """The worker's first message: the framework is imported."""

    version: str


@dataclass(frozen=True)
class Prepare:
    """Forget the layer before and get this one ready.

    Attributes
    ----------
    workload : Workload
        The layer.
    expected : str
        A NumPy file with our result.
    writes : bool
        Write that file from the first variant's result; where False compare every variant with it.
    """

    workload: Workload
    expected: str
    writes: bool


@dataclass(frozen=True)
class Progress:
    """What a worker is about, before its answer; there may be any number of them."""

    text: str


@dataclass(frozen=True)
class Prepared:
    """The layer's variants that are right.

    Attributes
    ----------
    variants : mapping of int to tuple of (str, str)
        By their places: layout, and whether the output is fresh or reused.
    faults : mapping of str to str
        What is wrong with the others, by layout.
    """

    variants: Mapping[int, tuple[str, str]]
    faults: Mapping[str, str]


@dataclass(frozen=True)
class Turn:
    """Time one variant, by its place, for about so many seconds."""

    variant: int
    seconds: float


@dataclass(frozen=True)
class Samples:
    """The seconds per call of a turn's calls."""

    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Failure:
    """Why an implementation has no times.

    Attributes
    ----------
    kind : str
        In a word or two: ``"wrong"``, ``"SIGABRT"``, ``"timeout"``, ``"error"``.
    message : str
        The rest, on one line.
    """

    kind: str
    message: str
