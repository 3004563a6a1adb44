"""Every error that the package raises on purpose: one class per failure that a caller can act on.

All derive from `Conv3dtError`, and from the built-in exception that fits, so that ``except ValueError`` works too.
Their messages read *failed to <verb> <object> with <value>: <rule>*, then what mends it: see `describe`.
"""

from __future__ import annotations

import reprlib

__all__ = [
    "ArgumentTypeError",
    "ArrayError",
    "CompileError",
    "CompilerMissingError",
    "Conv3dtError",
    "DeviceError",
    "FileFormatError",
    "FileWriteError",
    "FleetError",
    "LibraryError",
    "PlatformError",
    "SignatureError",
    "TuningError",
    "UnsupportedError",
    "VerificationError",
    "WorkloadError",
    "WorkloadNotFoundError",
    "describe",
    "file_trouble",
    "show",
]

KERNEL_FAILED = 1
USAGE = 2
ENVIRONMENT = 3

_MOST_SHOWN = 300  # characters of a value


class Conv3dtError(Exception):
    """Base of the package's errors.

    Attributes
    ----------
    exit_code : int
        What a command line program ends with: 1 a kernel failed, 2 wrong usage, 3 the environment.
    """

    exit_code: int = ENVIRONMENT


class WorkloadError(Conv3dtError, ValueError):
    """Shapes, strides or other arguments that TensorFlow's rules do not allow."""

    exit_code = USAGE


class ArgumentTypeError(Conv3dtError, TypeError):
    """An argument of the wrong type: a bool or a float as a size, an integer dtype."""

    exit_code = USAGE


class UnsupportedError(Conv3dtError, NotImplementedError):
    """Legal in TensorFlow, and not yet compiled here."""

    exit_code = USAGE


class ArrayError(Conv3dtError, ValueError):
    """An array that cannot be used: wrong shape, read-only or overlapping output."""

    exit_code = USAGE


class DeviceError(Conv3dtError, ValueError):
    """A device name that the catalogue does not have, or a device that cannot do what is asked."""

    exit_code = USAGE


class WorkloadNotFoundError(Conv3dtError, LookupError):
    """No workload, set or file of that name."""

    exit_code = USAGE


class FileFormatError(Conv3dtError, ValueError):
    """A file that is unreadable, damaged or of an unknown schema."""


class FileWriteError(Conv3dtError, OSError):
    """A file that could not be written: no permission, no space."""


class SignatureError(Conv3dtError):
    """A schedule or log made by another TVM, another compute definition or for another device."""


class PlatformError(Conv3dtError):
    """The machine's operating system, architecture, CPU features, GPU or its driver do not fit."""


class LibraryError(Conv3dtError, OSError):
    """A shared library that is missing, modified, or does not load."""


class CompilerMissingError(Conv3dtError, ImportError):
    """Something needs the compiler, and only the runtime is installed."""


class CompileError(Conv3dtError):
    """A workload that did not compile."""

    exit_code = KERNEL_FAILED


class VerificationError(Conv3dtError):
    """A kernel whose result differs from the reference."""

    exit_code = KERNEL_FAILED


class FleetError(Conv3dtError, OSError):
    """A fleet's tracker that does not answer, or no board of it that can be used."""


class TuningError(Conv3dtError):
    """A search that found no valid candidate."""

    exit_code = KERNEL_FAILED


class _Shortener(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = 8
        self.maxstring = self.maxlong = 80
        self.maxother = 120
        self.maxlevel = 2  # an array as nested lists is as long as it has elements


def show(value: object) -> str:
    """Return `value` as a message shows it: like ``repr``, but short, on one line, and never failing.

    Parameters
    ----------
    value : object
        Anything, also what a caller passed by mistake.

    Returns
    -------
    str
        At most 300 characters.
    """
    try:
        text = _Shortener().repr(value)
    except (
        Exception
    ):  # Python refuses to print huge integers; a foreign __repr__ may raise anything
        text = f"<{type(value).__name__} that cannot be printed>"
    text = " ".join(text.split())
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


def describe(verb: str, obj: str, value: str, rule: str, mend: str = "") -> str:
    """Return an error's message.

    Parameters
    ----------
    verb, obj : str
        What was tried: ``"read"``, ``"manifest"``.
    value : str
        The value at fault, with its name where it has one: ``"strides=[0, 2, 2]"``.
    rule : str
        The rule it breaks.
    mend : str
        The command or change that mends it, if there is one.

    Returns
    -------
    str
        ``failed to <verb> <obj> with <value>: <rule>[; <mend>]``.
    """
    message = f"failed to {verb} {obj} with {value}: {rule}"
    return f"{message}; {mend}" if mend else message


def file_trouble(error: OSError) -> str:
    """Return the message of a file that the operating system refuses, for an error that is none of ours."""
    file = show(error.filename or "no name")
    return describe("use", "file", file, error.strerror or str(error))
