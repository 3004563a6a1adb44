"""Building TVM modules for CUDA with our compiler, and exporting them with what it gave.

TVM compiles CUDA C when its CUDA runtime is loaded, which needs a driver; elsewhere it keeps the source for the machine
that loads the module to compile. Here both are compiled where they are built: TVM shows each source to one global
function (``postproc``) and asks another for its binary (``compile``), and a source that it kept is replaced on the way
into the library.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi

from tvm_conv3dt.compiler.cuda_binary import CudaBinary
from tvm_conv3dt.compiler.cuda_toolchain import compile_source
from tvm_conv3dt.errors import CompileError, describe
from tvm_conv3dt.gpu import KernelResources

__all__ = ["CudaBuild", "cuda_compiler"]

_KIND = b"cuda"
_SOURCE = b"cuda"  # TVM's names of formats
_BINARY = b"cubin"  # whatever a driver loads that is not text
_HOST = b"_lib"  # stands for the library itself

# Global functions are the process's: one build at a time may have its own.
_lock = threading.RLock()


class CudaBuild:
    """What was compiled while a module was built.

    Attributes
    ----------
    arch : str
        What for.
    binaries : dict of str to CudaBinary
        What each source became.
    error : Exception or None
        Why a source did not compile.
    """

    def __init__(self, arch: str) -> None:
        self.arch = arch
        self.binaries: dict[str, CudaBinary] = {}
        self.error: Exception | None = None

    @property
    def resources(self) -> tuple[KernelResources, ...]:
        """What each kernel takes, in the order in which they were compiled."""
        return tuple(each for binary in self.binaries.values() for each in binary.resources)

    @property
    def toolkit(self) -> str:
        """Version of the CUDA toolkit that compiled: ``"13.0"``."""
        _, version = next(iter(self.binaries.values())).toolkit.split()
        return ".".join(version.split(".")[:2])

    def compile(self, source: str) -> bytes:
        """Compile a source, once, and return what a CUDA driver loads."""
        if source not in self.binaries:
            try:
                self.binaries[source] = compile_source(source, self.arch)
            except Exception as error:
                self.error = error
                raise
        return self.binaries[source].fatbin

    def pack_imports(self, module: Any, is_system_lib: bool, prefix: str, folder: str) -> str:
        """Write the modules that `module` imports as an object file, binaries in the place of sources.

        To be given to TVM's ``export_library`` as ``fpack_imports``.

        Raises
        ------
        CompileError
            If one of the modules was not built by this build.
        """
        pack = tvm_ffi.get_global_func("runtime.ModulePackImportsToTensor")
        embed = tvm_ffi.get_global_func("codegen.codegen_blob")
        packed = self._with_binaries(pack(module).numpy().tobytes())
        target = module.get_function("_get_target_string")()
        path = Path(folder) / f"{prefix}devc.o"
        embed(packed, is_system_lib, target, prefix).write_to_file(str(path))
        return str(path)

    def _with_binaries(self, packed: bytes) -> bytes:
        """Replace the sources in what TVM packed: its length, which module imports which, then each."""
        stream = _Stream(packed)
        stream.number()
        start = stream.position
        count = stream.numbers() - 1  # of modules, from where the imports of each begin
        stream.numbers()
        parts = [packed[start : stream.position]]
        for _ in range(count):
            kind = stream.text()
            parts.append(_text(kind))
            if kind != _HOST:
                module = stream.text()
                parts.append(_text(self._compiled(module) if kind == _KIND else module))
        joined = b"".join(parts)
        return struct.pack("<Q", len(joined)) + joined

    def _compiled(self, module: bytes) -> bytes:
        """Return a saved CUDA module, its format, functions and code, with a binary as its code."""
        if not module.startswith(_text(_SOURCE)):
            return module
        for source, binary in self.binaries.items():
            code = _text(source.encode())
            if module.endswith(code):
                functions = module[len(_text(_SOURCE)) : -len(code)]
                return _text(_BINARY) + functions + _text(binary.fatbin)
        rule = "its source was not compiled by this build"
        raise CompileError(describe("export", "a CUDA module for", self.arch, rule))


class _Stream:
    """Reads what TVM wrote: numbers of 64 bits, and lists and texts after their lengths."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def number(self) -> int:
        (value,) = struct.unpack_from("<Q", self.data, self.position)
        self.position += 8
        return int(value)

    def numbers(self) -> int:
        """Skip a list of numbers and return how many there are."""
        count = self.number()
        self.position += 8 * count
        return count

    def text(self) -> bytes:
        length = self.number()
        self.position += length
        return self.data[self.position - length : self.position]


def _text(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


@contextmanager
def cuda_compiler(arch: str) -> Iterator[CudaBuild]:
    """Compile the CUDA C of modules that are built meanwhile for `arch`, with or without a GPU.

    Global functions of the process are replaced meanwhile: other threads that come here wait.

    Parameters
    ----------
    arch : str
        As CUDA names it: ``"sm_90"``.

    Yields
    ------
    CudaBuild
        What was compiled. Its ``pack_imports`` is what ``export_library`` needs, also afterwards.

    Raises
    ------
    CompilerMissingError, DeviceError, CompileError
        If a source could not be compiled: see `compile_source`.
    """
    build = CudaBuild(arch)
    with _lock:
        seen = tvm_ffi.get_global_func("tvm_callback_cuda_postproc", allow_missing=True)

        def postproc(code: str, target: tvm.target.Target) -> str:
            final = code if seen is None else str(seen(code, target))
            build.compile(final)
            return final

        with (
            _registered("tvm_callback_cuda_postproc", postproc),
            _registered("tvm_callback_cuda_compile", build.compile),
        ):
            try:
                yield build
            except Exception as error:
                # On its way through TVM an error loses its class.
                if build.error is None or build.error is error:
                    raise
                raise build.error from error


@contextmanager
def _registered(name: str, function: Callable[..., Any]) -> Iterator[None]:
    former = tvm_ffi.get_global_func(name, allow_missing=True)
    tvm_ffi.register_global_func(name, function, override=True)
    try:
        yield
    finally:
        if former is None:
            tvm_ffi.remove_global_func(name)
        else:
            tvm_ffi.register_global_func(name, former, override=True)
