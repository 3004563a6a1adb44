"""Bundles: schedules become shared libraries, in a folder that is deployed as it is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import tvm

import tvm_conv3dt
from tvm_conv3dt import cudart, paths
from tvm_conv3dt import device as devices
from tvm_conv3dt.compiler import definition, kernel, schedule, wrapper
from tvm_conv3dt.compiler.levels import levels_of
from tvm_conv3dt.compiler.schedule import Schedule
from tvm_conv3dt.compiler.target import host_of
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import (
    FileFormatError,
    FileWriteError,
    UnsupportedError,
    WorkloadNotFoundError,
    describe,
)
from tvm_conv3dt.level import Kernel, Level, LibraryFile, ScheduleSummary
from tvm_conv3dt.manifest import FILE_NAME, CudaRuntime, Layer, Manifest, Platform
from tvm_conv3dt.workload_set import NamedWorkload

__all__ = ["build_bundle"]

_RUNTIME = "libtvm_runtime.so"
_CUDA_RUNTIME = "libtvm_runtime_cuda.so"
_LICENCES = ("LICENSE", "NOTICE")


def build_bundle(
    named: Sequence[NamedWorkload],
    devices: Sequence[Device],
    output: Path,
    *,
    schedules: Iterable[Path] | None = None,
    allow_untuned: bool = False,
    with_wrapper: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> Manifest:
    """Build a bundle and put it at `output`, whole or not at all.

    Parameters
    ----------
    named : sequence of NamedWorkload
        What it is to hold; of those of one name, the last.
    devices : sequence of Device
        What it is for: each becomes a level, and loading takes the most demanding one that runs.
    output : Path
        The folder to write; a bundle that is there already is replaced.
    schedules : iterable of Path, optional
        Folders of schedules, nearest first; by default the working directory's and the package's.
    allow_untuned : bool
        Whether to build the default point where there is no schedule.
    with_wrapper : bool
        Whether to put this package's runtime into the bundle (`wrapper.write`).
    on_progress : callable, optional
        Called before each kernel is built, with the names of its workload and device.

    Returns
    -------
    Manifest
        The bundle's manifest.

    Raises
    ------
    DeviceError
        If the devices cannot be levels of one bundle (`levels_of`).
    UnsupportedError
        If a workload, or a device, cannot be compiled for yet.
    WorkloadNotFoundError
        If there is no schedule for a workload and a device, and `allow_untuned` is false.
    FileWriteError
        If `output` is something else than a bundle, or cannot be written.
    """
    named = list({each.name: each for each in named}.values())
    levels = levels_of(devices)
    for device in levels:
        _require_native(device)
    folders = list(paths.schedule_folders() if schedules is None else schedules)
    chosen = {
        device: [(each, _schedule(each, device, folders, allow_untuned)) for each in named]
        for device in levels
    }
    _require_replaceable(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
        try:
            manifest = _fill(staging, chosen, with_wrapper, on_progress)
            staging.chmod(0o755)
            _replace(staging, output)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise _not_written(output, error) from error
    return manifest


def _schedule(
    each: NamedWorkload, device: Device, folders: list[Path], allow_untuned: bool
) -> Schedule:
    found = schedule.find(each.workload, device, folders)
    if found is not None:
        return found
    if allow_untuned:
        return schedule.default_schedule(each.workload, device)
    searched = ", ".join(str(folder / device.name) for folder in folders)
    raise WorkloadNotFoundError(
        describe(
            "build",
            "workload",
            each.name,
            f"there is no schedule for it in {searched}",
            f"tune it: tvm-conv3dt tune --device {device.name} --workloads {each.name}, "
            "or build the default point with --allow-untuned",
        )
    )


def _fill(
    folder: Path,
    chosen: Mapping[Device, Sequence[tuple[NamedWorkload, Schedule]]],
    with_wrapper: bool,
    on_progress: Callable[[str], None] | None,
) -> Manifest:
    levels, toolkit = [], ""
    for device, layers in chosen.items():
        kernels = []
        for each, its_schedule in layers:
            if on_progress is not None:
                on_progress(f"{each.name} for {device.name}")
            built = kernel.compile_kernel(
                its_schedule.layout(device), device, its_schedule.apply(device)
            )
            toolkit = "" if built.gpu is None else built.gpu.toolkit
            kernels.append(_kernel(folder, each, its_schedule, built))
        host, arch = host_of(device), device.arch if device.kind == "cuda" else None
        levels.append(Level(device.name, host.mcpu, host.cpu_features, tuple(kernels), arch))
    first = next(iter(chosen))
    manifest = Manifest(
        package=tvm_conv3dt.__version__,
        tvm=tvm.__version__,
        tvm_ffi=metadata.version("apache-tvm-ffi"),
        definition=definition.VERSION,
        platform=Platform(first.kind, first.os, host_of(first).arch),
        runtime=_copy_runtime(folder),
        cuda=_copy_cuda_runtime(folder, toolkit) if first.kind == "cuda" else None,
        layers=tuple(_layer(each) for each, _ in chosen[first]),
        levels=tuple(levels),
        wrapper=wrapper.write(folder) if with_wrapper else None,
    )
    manifest.write(folder)
    return manifest


def _layer(each: NamedWorkload) -> Layer:
    workload = each.workload
    return Layer(each.name, workload, workload.id, kernel.pack_symbol(workload))


def _kernel(folder: Path, each: NamedWorkload, its: Schedule, built: kernel.Kernel) -> Kernel:
    path = folder / f"{each.workload.id}.{built.device.name}.so"
    kernel.export(built, path)
    median_ms = None if its.measurement is None else its.measurement.median_ms
    return Kernel(
        layer=each.name,
        library=LibraryFile.of(path),
        packed_shape=built.packed_shape,
        packed_dtype=built.packed_dtype,
        workspace_bytes=built.workspace_bytes,
        schedule=ScheduleSummary(its.source, its.formulation, median_ms),
        resources=() if built.gpu is None else built.gpu.resources,
    )


def _copy_runtime(folder: Path) -> LibraryFile:
    """Copy TVM's runtime library, with its licence, from the installed TVM."""
    package = Path(tvm.__file__).parent
    shutil.copyfile(package / "lib" / _RUNTIME, folder / _RUNTIME)
    for name in _LICENCES:
        shutil.copyfile(package / name, folder / f"{name}.tvm")
    return LibraryFile.of(folder / _RUNTIME)


def _copy_cuda_runtime(folder: Path, toolkit: str) -> CudaRuntime:
    """Copy the part of TVM's runtime that drives GPUs, from the installed TVM."""
    shutil.copyfile(Path(tvm.__file__).parent / "lib" / _CUDA_RUNTIME, folder / _CUDA_RUNTIME)
    return CudaRuntime(LibraryFile.of(folder / _CUDA_RUNTIME), cudart.NAME, toolkit)


def _require_native(device: Device) -> None:
    if host_of(device).arch != devices.architecture():
        raise UnsupportedError(
            describe(
                "build",
                "a bundle for device",
                device.name,
                f"it has another architecture ({device.arch}) than this machine, "
                "which is not supported yet",
                f"build on a machine of {device.arch}",
            )
        )


def _require_replaceable(output: Path) -> None:
    if not output.exists() or (output.is_dir() and _holds_only_a_bundle(output)):
        return
    raise FileWriteError(
        describe(
            "write",
            "bundle",
            str(output),
            "there is something else than a bundle of this version, or other files beside one",
            "remove it, or name another folder",
        )
    )


def _holds_only_a_bundle(folder: Path) -> bool:
    """Whether replacing a folder loses nothing but a bundle: it is empty, or holds one's files alone."""
    found = {path.name for path in folder.iterdir()}
    if FILE_NAME not in found:
        return not found
    try:
        manifest = Manifest.read(folder)
    except FileFormatError:
        return False
    known = {FILE_NAME, manifest.runtime.file, *(f"{name}.tvm" for name in _LICENCES)}
    if manifest.cuda is not None:
        known.add(manifest.cuda.library.file)
    if manifest.wrapper is not None:
        known.add(manifest.wrapper.file)
    known.update(kernel.library.file for level in manifest.levels for kernel in level.kernels)
    return found <= known


def _replace(staging: Path, output: Path) -> None:
    """Put `staging` in the place of `output`; a folder cannot be replaced in one step by renaming."""
    if not output.exists():
        staging.rename(output)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{output.name}.old.", dir=output.parent))
    try:
        output.rename(old / "bundle")
        try:
            staging.rename(output)
        except BaseException:
            (old / "bundle").rename(output)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _not_written(output: Path, error: OSError) -> FileWriteError:
    if isinstance(error, FileWriteError):
        return error
    reason = os.strerror(error.errno) if error.errno else str(error)
    mend = "check its permissions and the free space, or name another folder"
    return FileWriteError(describe("write", "bundle", str(output), reason, mend))
