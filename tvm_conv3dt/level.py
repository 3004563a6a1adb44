"""A level of a bundle: its layers compiled for one device, of which the runtime picks one when it loads."""

from __future__ import annotations

import os
import re
from collections.abc import Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tvm_conv3dt import files
from tvm_conv3dt.fields import Fields
from tvm_conv3dt.gpu import KernelResources
from tvm_conv3dt.spec import DTYPES

__all__ = ["Kernel", "Level", "LibraryFile", "ScheduleSummary"]

# One component, so that no name leaves the bundle's folder; no leading dot, so that none is "..".
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Without the suffix of code that runs on one architecture only, such as sm_90a.
# bfloat16 that kernels multiply as it is, they take as uint16: NumPy has that, whatever is installed.
_PACKED_DTYPES = (*DTYPES, "uint16")
_GPU_ARCH = re.compile(r"sm_([1-9][0-9]?)([0-9])")


@dataclass(frozen=True)
class LibraryFile:
    """A shared library of the bundle, with what it takes to notice that it was changed.

    Attributes
    ----------
    file : str
        Its name in the bundle's folder.
    sha256 : str
        64 lower-case hexadecimal digits.
    bytes : int
        Its size.
    """

    file: str
    sha256: str
    bytes: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> LibraryFile:
        """Describe an existing file.

        Raises
        ------
        FileFormatError
            If the file is missing or unreadable.
        """
        digest = files.sha256(path)
        return cls(Path(path).name, digest, Path(path).stat().st_size)

    @classmethod
    def from_fields(cls, fields: Fields) -> LibraryFile:
        """Read the form that ``asdict`` gives.

        Raises
        ------
        FileFormatError
            If it is damaged, or names a file outside the bundle's folder.
        """
        library = cls(fields.text("file"), fields.text("sha256"), fields.integer("bytes"))
        if not _PLAIN_NAME.fullmatch(library.file):
            rule = "it must name a file in the bundle's folder, without a path"
            raise fields.refuse("file", library.file, rule)
        if not _SHA256.fullmatch(library.sha256):
            rule = "it must be 64 lower-case hexadecimal digits"
            raise fields.refuse("sha256", library.sha256, rule)
        fields.finish()
        return library


@dataclass(frozen=True)
class ScheduleSummary:
    """Where a kernel's schedule came from.

    Attributes
    ----------
    source : str
        ``"tuned"``, or ``"default"`` for the design space's default point.
    formulation : str
        How the operator was written.
    median_ms : float or None
        Its time when it was tuned, in milliseconds.
    """

    source: str
    formulation: str
    median_ms: float | None

    @classmethod
    def from_fields(cls, fields: Fields) -> ScheduleSummary:
        """Read the form that ``asdict`` gives; a damaged one raises `FileFormatError`."""
        schedule = cls(
            fields.text("source"), fields.text("formulation"), fields.optional_number("median_ms")
        )
        fields.finish()
        return schedule


@dataclass(frozen=True)
class Kernel:
    """One layer compiled for one level.

    Attributes
    ----------
    layer : str
        The layer's name.
    library : LibraryFile
        The library that holds it.
    packed_shape : tuple of int
        Shape of the packed filters, which are 64-byte aligned.
    packed_dtype : str
        Their dtype.
    workspace_bytes : int
        Memory that one call takes beside its arguments, in bytes.
    schedule : ScheduleSummary
        Where its schedule came from.
    resources : tuple of KernelResources
        What each of its functions that run on a GPU takes of it; none for a CPU.
    """

    layer: str
    library: LibraryFile
    packed_shape: tuple[int, ...]
    packed_dtype: str
    workspace_bytes: int
    schedule: ScheduleSummary
    resources: tuple[KernelResources, ...] = ()

    @classmethod
    def from_fields(cls, fields: Fields) -> Kernel:
        """Read the form that `to_dict` gives; a damaged one raises `FileFormatError`."""
        kernel = cls(
            layer=fields.text("layer"),
            library=LibraryFile.from_fields(fields.child("library")),
            packed_shape=fields.integers("packed_shape", minimum=1),
            packed_dtype=fields.text("packed_dtype"),
            workspace_bytes=fields.integer("workspace_bytes"),
            schedule=ScheduleSummary.from_fields(fields.child("schedule")),
            resources=tuple(
                KernelResources.from_fields(each) for each in fields.children("resources")
            ),
        )
        if kernel.packed_dtype not in _PACKED_DTYPES:
            rule = f"it must be one of {', '.join(_PACKED_DTYPES)}"
            raise fields.refuse("packed_dtype", kernel.packed_dtype, rule)
        fields.finish()
        return kernel

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of this kernel."""
        values = asdict(self)
        return values | {each: list(values[each]) for each in ("packed_shape", "resources")}


@dataclass(frozen=True)
class Level:
    """A bundle's layers, compiled for one device.

    Attributes
    ----------
    device : str
        The device's name, which is the level's too.
    mcpu : str
        LLVM's name of the CPU that the code is for: with a GPU, the code that starts its kernels.
    cpu_features : tuple of str
        What a CPU must have to run the code, in the names of `tvm_conv3dt.device`.
    kernels : tuple of Kernel
        One for each layer of the bundle, in their order.
    gpu_arch : str or None
        The architecture of GPUs that the kernels are for, such as ``"sm_90"``; None for a CPU.
    """

    device: str
    mcpu: str
    cpu_features: tuple[str, ...]
    kernels: tuple[Kernel, ...]
    gpu_arch: str | None = None

    @classmethod
    def from_fields(cls, fields: Fields) -> Level:
        """Read the form that `to_dict` gives; a damaged one raises `FileFormatError`."""
        level = cls(
            device=fields.text("device"),
            mcpu=fields.text("mcpu"),
            cpu_features=fields.texts("cpu_features"),
            kernels=tuple(Kernel.from_fields(each) for each in fields.children("kernels")),
            gpu_arch=fields.optional_text("gpu_arch"),
        )
        fields.finish()
        if level.gpu_arch is not None and not _GPU_ARCH.fullmatch(level.gpu_arch):
            rule = "it must be an architecture such as 'sm_90'"
            raise fields.refuse("gpu_arch", level.gpu_arch, rule)
        return level

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of this level."""
        return {
            "device": self.device,
            "mcpu": self.mcpu,
            "cpu_features": list(self.cpu_features),
            "gpu_arch": self.gpu_arch,
            "kernels": [kernel.to_dict() for kernel in self.kernels],
        }

    @property
    def capability(self) -> tuple[int, int] | None:
        """The lowest compute capability that runs the kernels, such as ``(9, 0)``; None for a CPU."""
        if self.gpu_arch is None:
            return None
        match = _GPU_ARCH.fullmatch(self.gpu_arch)
        assert match is not None, self.gpu_arch
        return int(match[1]), int(match[2])

    def missing(self, cpu_features: Set[str]) -> tuple[str, ...]:
        """Return what a CPU with these features lacks to run the code, sorted; nothing if it can."""
        return tuple(sorted(set(self.cpu_features) - cpu_features))

    def kernel(self, layer: str) -> Kernel:
        """Return the kernel of the layer of that name; raises `KeyError` if there is none."""
        for kernel in self.kernels:
            if kernel.layer == layer:
                return kernel
        raise KeyError(layer)
