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
from tvm_conv3dt.level import Level, LibraryFile
from tvm_conv3dt.spec import Workload

__all__ = ["FILE_NAME", "SCHEMA", "Layer", "Manifest", "Platform"]

SCHEMA = 2
"""The only schema that this version reads and writes."""

FILE_NAME = "manifest.json"
"""The manifest's name in the bundle's folder."""

_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Platform:
    """What all levels of a bundle are for: kind of code (``"llvm"``), operating system, architecture."""

    kind: str
    os: str
    arch: str


@dataclass(frozen=True)
class Layer:
    """One workload of a bundle: what is the same on every level.

    Attributes
    ----------
    name : str
        Its short name, unique in the bundle.
    workload : Workload
        What it computes.
    run_symbol, pack_symbol : str
        Its two functions: ``run(x, packed[, bias], y)`` and ``pack(filters, packed)``.
    """

    name: str
    workload: Workload
    run_symbol: str
    pack_symbol: str

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
    platform : Platform
        What all levels are for.
    runtime : LibraryFile
        TVM's runtime library, which the libraries of all levels call.
    layers : tuple of Layer
        The workloads.
    levels : tuple of Level
        The layers compiled, once for each device; the most demanding device first. At least one.
    """

    package: str
    tvm: str
    tvm_ffi: str
    definition: int
    platform: Platform
    runtime: LibraryFile
    layers: tuple[Layer, ...]
    levels: tuple[Level, ...]

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
            "platform": asdict(self.platform),
            "runtime": asdict(self.runtime),
            "layers": [_layer_to_dict(layer) for layer in self.layers],
            "levels": [level.to_dict() for level in self.levels],
        }


def _layer_to_dict(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "id": layer.id,
        "workload": layer.workload.to_dict(),
        "symbols": {"run": layer.run_symbol, "pack": layer.pack_symbol},
    }


def _manifest(fields: Fields) -> Manifest:
    fields.integer("schema")
    manifest = Manifest(
        package=fields.text("package"),
        tvm=fields.text("tvm"),
        tvm_ffi=fields.text("tvm_ffi"),
        definition=fields.integer("definition"),
        platform=_platform(fields.child("platform")),
        runtime=LibraryFile.from_fields(fields.child("runtime")),
        layers=tuple(_layer(layer) for layer in fields.children("layers")),
        levels=tuple(Level.from_fields(level) for level in fields.children("levels")),
    )
    fields.finish()
    _require_distinct(fields, "layers[{}].name", [layer.name for layer in manifest.layers])
    _require_levels(fields, manifest)
    return manifest


def _require_levels(fields: Fields, manifest: Manifest) -> None:
    levels = manifest.levels
    if not levels:
        raise fields.refuse("levels", [], "there must be at least one")
    _require_distinct(fields, "levels[{}].device", [level.device for level in levels])
    names = [layer.name for layer in manifest.layers]
    owners: dict[str, str] = {}
    for index, level in enumerate(levels):
        held = [kernel.layer for kernel in level.kernels]
        if held != names:
            rule = f"there must be one for each layer, in their order: {', '.join(names)}"
            raise fields.refuse(f"levels[{index}].kernels", held, rule)
        for place, kernel in enumerate(level.kernels):
            # Two names of one workload share a library; code for another CPU must not be shared.
            file = kernel.library.file
            if owners.setdefault(file, level.device) != level.device:
                rule = f"it belongs to the level {owners[file]}"
                where = f"levels[{index}].kernels[{place}].library.file"
                raise fields.refuse(where, file, rule)


def _require_distinct(fields: Fields, place: str, names: list[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise fields.refuse(place.format(index), name, "an earlier one has it too")


def _platform(fields: Fields) -> Platform:
    platform = Platform(fields.text("kind"), fields.text("os"), fields.text("arch"))
    fields.finish()
    return platform


def _layer(fields: Fields) -> Layer:
    identity = fields.text("id")
    symbols = fields.child("symbols")
    layer = Layer(
        name=fields.text("name"),
        workload=_workload(fields),
        run_symbol=_symbol(symbols, "run"),
        pack_symbol=_symbol(symbols, "pack"),
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
