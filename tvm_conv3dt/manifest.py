"""A bundle's manifest: what the bundle holds, what made it, and what it needs to run."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tvm_conv3dt import files
from tvm_conv3dt.errors import Conv3dtError, FileFormatError, describe
from tvm_conv3dt.fields import Fields
from tvm_conv3dt.spec import Workload

__all__ = [
    "FILE_NAME",
    "SCHEMA",
    "BundleDevice",
    "Layer",
    "LibraryFile",
    "Manifest",
    "Requirements",
    "ScheduleSummary",
]

SCHEMA = 1
"""The only schema that this version reads and writes."""

FILE_NAME = "manifest.json"
"""The manifest's name in the bundle's folder."""

# One component, so that no name leaves the bundle's folder; no leading dot, so that none is "..".
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


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


@dataclass(frozen=True)
class BundleDevice:
    """The device that a bundle was built for: its name, kind (``"llvm"``) and LLVM CPU name."""

    name: str
    kind: str
    mcpu: str


@dataclass(frozen=True)
class Requirements:
    """What a machine must have to run a bundle, in the names of `tvm_conv3dt.device`."""

    os: str
    arch: str
    cpu_features: tuple[str, ...]


@dataclass(frozen=True)
class ScheduleSummary:
    """Where a layer's schedule came from.

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


@dataclass(frozen=True)
class Layer:
    """One compiled workload of a bundle.

    Attributes
    ----------
    name : str
        Its short name, unique in the bundle.
    workload : Workload
        What it computes.
    library : LibraryFile
        The library that holds it.
    run_symbol, pack_symbol : str
        Its two functions: ``run(x, packed[, bias], y)`` and ``pack(filters, packed)``.
    packed_shape : tuple of int
        Shape of the packed filters, of the workload's dtype and 64-byte aligned.
    workspace_bytes : int
        Memory that one call takes beside its arguments, in bytes.
    schedule : ScheduleSummary
        Where its schedule came from.
    """

    name: str
    workload: Workload
    library: LibraryFile
    run_symbol: str
    pack_symbol: str
    packed_shape: tuple[int, ...]
    workspace_bytes: int
    schedule: ScheduleSummary

    @property
    def id(self) -> str:
        """The workload's id."""
        return self.workload.id


@dataclass(frozen=True)
class Manifest:
    """The content of a bundle's ``manifest.json``.

    Attributes
    ----------
    package, tvm, tvm_ffi : str
        Versions of this package, TVM and tvm-ffi that built the bundle.
    definition : int
        Version of the compute definition.
    device : BundleDevice
        What it was built for.
    requires : Requirements
        What it needs to run.
    runtime : LibraryFile
        TVM's runtime library, which the layers' libraries call.
    layers : tuple of Layer
        The compiled workloads.
    """

    package: str
    tvm: str
    tvm_ffi: str
    definition: int
    device: BundleDevice
    requires: Requirements
    runtime: LibraryFile
    layers: tuple[Layer, ...]

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Manifest:
        """Read and check the manifest of the bundle in `folder`.

        Parameters
        ----------
        folder : path-like
            The bundle's folder.

        Returns
        -------
        Manifest
            Its content; the libraries that it names are not looked at.

        Raises
        ------
        FileFormatError
            If it is missing, damaged, of another schema, contradicts itself, or names a file outside
            the folder.
        """
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            raise FileFormatError(
                describe(
                    "read",
                    "bundle",
                    str(folder),
                    f"it has no {FILE_NAME}",
                    "name the folder that tvm-conv3dt build -o made",
                )
            )
        return _manifest(Fields(path, files.read_json(path, SCHEMA)))

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Write the manifest into `folder`, atomically, and return its path.

        Raises
        ------
        FileWriteError
            If the operating system refuses.
        """
        path = Path(folder) / FILE_NAME
        files.write_json(path, self.to_dict())
        return path

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of this manifest."""
        return {
            "schema": SCHEMA,
            "package": self.package,
            "tvm": self.tvm,
            "tvm_ffi": self.tvm_ffi,
            "definition": self.definition,
            "device": asdict(self.device),
            "requires": {**asdict(self.requires), "cpu_features": list(self.requires.cpu_features)},
            "runtime": asdict(self.runtime),
            "layers": [_layer_to_dict(layer) for layer in self.layers],
        }


def _layer_to_dict(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "id": layer.id,
        "workload": layer.workload.to_dict(),
        "library": asdict(layer.library),
        "symbols": {"run": layer.run_symbol, "pack": layer.pack_symbol},
        "packed_shape": list(layer.packed_shape),
        "workspace_bytes": layer.workspace_bytes,
        "schedule": asdict(layer.schedule),
    }


def _manifest(fields: Fields) -> Manifest:
    fields.integer("schema")
    manifest = Manifest(
        package=fields.text("package"),
        tvm=fields.text("tvm"),
        tvm_ffi=fields.text("tvm_ffi"),
        definition=fields.integer("definition"),
        device=_device(fields.child("device")),
        requires=_requirements(fields.child("requires")),
        runtime=_library(fields.child("runtime")),
        layers=tuple(_layer(layer) for layer in fields.children("layers")),
    )
    fields.finish()
    seen: set[str] = set()
    for index, layer in enumerate(manifest.layers):
        if layer.name in seen:
            raise fields.refuse(f"layers[{index}].name", layer.name, "an earlier layer has it too")
        seen.add(layer.name)
    return manifest


def _device(fields: Fields) -> BundleDevice:
    device = BundleDevice(fields.text("name"), fields.text("kind"), fields.text("mcpu"))
    fields.finish()
    return device


def _requirements(fields: Fields) -> Requirements:
    requires = Requirements(fields.text("os"), fields.text("arch"), fields.texts("cpu_features"))
    fields.finish()
    return requires


def _library(fields: Fields) -> LibraryFile:
    library = LibraryFile(fields.text("file"), fields.text("sha256"), fields.integer("bytes"))
    if not _PLAIN_NAME.fullmatch(library.file):
        raise fields.refuse(
            "file", library.file, "it must name a file in the bundle's folder, without a path"
        )
    if not _SHA256.fullmatch(library.sha256):
        raise fields.refuse("sha256", library.sha256, "it must be 64 lower-case hexadecimal digits")
    fields.finish()
    return library


def _layer(fields: Fields) -> Layer:
    identity = fields.text("id")
    symbols = fields.child("symbols")
    layer = Layer(
        name=fields.text("name"),
        workload=_workload(fields),
        library=_library(fields.child("library")),
        run_symbol=_symbol(symbols, "run"),
        pack_symbol=_symbol(symbols, "pack"),
        packed_shape=fields.integers("packed_shape", minimum=1),
        workspace_bytes=fields.integer("workspace_bytes"),
        schedule=_schedule(fields.child("schedule")),
    )
    symbols.finish()
    fields.finish()
    if layer.id != identity:
        raise fields.refuse("id", identity, f"its workload's id is {layer.id}")
    return layer


def _workload(fields: Fields) -> Workload:
    values = fields.mapping("workload")
    try:
        return Workload.from_dict(values)
    except Conv3dtError as error:
        raise fields.refuse("workload", values, str(error)) from error


def _symbol(fields: Fields, name: str) -> str:
    symbol = fields.text(name)
    if not _SYMBOL.fullmatch(symbol):
        raise fields.refuse(name, symbol, "it must be a C identifier")
    return symbol


def _schedule(fields: Fields) -> ScheduleSummary:
    schedule = ScheduleSummary(
        fields.text("source"), fields.text("formulation"), fields.optional_number("median_ms")
    )
    fields.finish()
    return schedule
