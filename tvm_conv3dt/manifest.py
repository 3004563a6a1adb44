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
from tvm_conv3dt.manifest_schema import READABLE, SCHEMA, lifted
from tvm_conv3dt.spec import Workload

__all__ = ["FILE_NAME", "CudaRuntime", "Layer", "Manifest", "Platform"]

FILE_NAME = "manifest.json"
"""The manifest's name in the bundle's folder."""

_KINDS = ("llvm", "cuda")
# It is looked for in folders of the system: no other file may be named.
_CUDART = re.compile(r"libcudart\.so\.[1-9][0-9]{0,3}")
_TOOLKIT = re.compile(r"[1-9][0-9]{0,3}\.[0-9]{1,4}")
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Platform:
    """What all levels of a bundle are for.

    Attributes
    ----------
    kind : str
        ``"llvm"`` for CPUs, ``"cuda"`` for NVIDIA's GPUs.
    os, arch : str
        Operating system and architecture, with a GPU those of the machine that it is in.
    """

    kind: str
    os: str
    arch: str


@dataclass(frozen=True)
class CudaRuntime:
    """What the kernels of a bundle for GPUs need beside `Manifest.runtime`.

    Attributes
    ----------
    library : LibraryFile
        The part of TVM's runtime that drives GPUs, in the bundle.
    cudart : str
        The CUDA runtime library that it needs, and that the machine must have: ``"libcudart.so.13"``.
    toolkit : str
        Version of the CUDA toolkit that compiled the kernels: ``"13.0"``.
    """

    library: LibraryFile
    cudart: str
    toolkit: str

    @classmethod
    def from_fields(cls, fields: Fields) -> CudaRuntime:
        """Read the form that ``asdict`` gives; a damaged one raises `FileFormatError`."""
        cuda = cls(
            library=LibraryFile.from_fields(fields.child("library")),
            cudart=fields.text("cudart"),
            toolkit=fields.text("toolkit"),
        )
        fields.finish()
        if not _CUDART.fullmatch(cuda.cudart):
            raise fields.refuse("cudart", cuda.cudart, "it must be such as 'libcudart.so.13'")
        if not _TOOLKIT.fullmatch(cuda.toolkit):
            raise fields.refuse("toolkit", cuda.toolkit, "it must be such as '13.0'")
        return cuda


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
    runtime : LibraryFile or None
        TVM's runtime library, which the libraries of all levels call; None where the bundle has none, as for
        architectures that TVM has no package for: its libraries are for programs that bring their own.
    cuda : CudaRuntime or None
        What kernels for GPUs need beside it; None for CPUs.
    layers : tuple of Layer
        The workloads.
    levels : tuple of Level
        The layers compiled, once for each device; the most demanding device first. At least one.
    wrapper : LibraryFile or None
        This package's runtime as one archive, where the bundle carries it; loading does not look at it.
    """

    package: str
    tvm: str
    tvm_ffi: str
    definition: int
    platform: Platform
    runtime: LibraryFile | None
    cuda: CudaRuntime | None
    layers: tuple[Layer, ...]
    levels: tuple[Level, ...]
    wrapper: LibraryFile | None = None

    @property
    def libraries(self) -> tuple[LibraryFile, ...]:
        """Every file of the bundle but its manifest and licences."""
        others = (self.runtime, None if self.cuda is None else self.cuda.library, self.wrapper)
        kernels = (kernel.library for level in self.levels for kernel in level.kernels)
        return (*(each for each in others if each is not None), *kernels)

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
            If it is missing, damaged, of a schema that is not read (`manifest_schema`), contradicts itself, or names
            a file outside the folder.
        """
        path = Path(folder) / FILE_NAME
        if not files.is_file(path):
            raise FileFormatError(
                describe(
                    "read",
                    "bundle",
                    str(folder),
                    f"it has no {FILE_NAME}",
                    "name the folder that tvm-conv3dt build -o made",
                )
            )
        return _manifest(Fields(path, lifted(files.read_json(path, READABLE))))

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
            "runtime": None if self.runtime is None else asdict(self.runtime),
            "cuda": None if self.cuda is None else asdict(self.cuda),
            "wrapper": None if self.wrapper is None else asdict(self.wrapper),
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
    runtime, cuda, wrapper = map(fields.optional_child, ("runtime", "cuda", "wrapper"))
    manifest = Manifest(
        package=fields.text("package"),
        tvm=fields.text("tvm"),
        tvm_ffi=fields.text("tvm_ffi"),
        definition=fields.integer("definition"),
        platform=_platform(fields.child("platform")),
        runtime=None if runtime is None else LibraryFile.from_fields(runtime),
        cuda=None if cuda is None else CudaRuntime.from_fields(cuda),
        layers=tuple(_layer(layer) for layer in fields.children("layers")),
        levels=tuple(Level.from_fields(level) for level in fields.children("levels")),
        wrapper=None if wrapper is None else LibraryFile.from_fields(wrapper),
    )
    fields.finish()
    _require_distinct(fields, "layers[{}].name", [layer.name for layer in manifest.layers])
    _require_levels(fields, manifest)
    _require_kind(fields, manifest)
    return manifest


def _require_kind(fields: Fields, manifest: Manifest) -> None:
    """Refuse a bundle for CPUs with anything of GPUs, and one for GPUs with less than they need."""
    kind = manifest.platform.kind
    on_gpus = kind == "cuda"
    rule = f"a bundle of kind {kind!r} has {'one' if on_gpus else 'none'}"
    if (manifest.cuda is not None) != on_gpus:
        raise fields.refuse("cuda", manifest.cuda, rule)
    for index, level in enumerate(manifest.levels):
        if (level.gpu_arch is not None) != on_gpus:
            raise fields.refuse(f"levels[{index}].gpu_arch", level.gpu_arch, rule)
        for place, kernel in enumerate(level.kernels):
            if kernel.resources and not on_gpus:
                where = f"levels[{index}].kernels[{place}].resources"
                raise fields.refuse(where, kernel.resources, rule)


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
    if platform.kind not in _KINDS:
        raise fields.refuse("kind", platform.kind, f"it must be one of {', '.join(_KINDS)}")
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
