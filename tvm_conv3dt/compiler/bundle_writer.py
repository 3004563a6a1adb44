"""Bundles: schedules become shared libraries, in a folder that is deployed as it is."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import tvm

import tvm_conv3dt
from tvm_conv3dt import cudart, paths
from tvm_conv3dt.compiler import (
    definition,
    kernel,
    schedule,
    schedule_file,
    target_runtime,
    wrapper,
)
from tvm_conv3dt.compiler.levels import levels_of
from tvm_conv3dt.compiler.schedule import Schedule
from tvm_conv3dt.compiler.target import host_of, require_compilable
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import (
    Conv3dtError,
    FileFormatError,
    FileWriteError,
    WorkloadNotFoundError,
    describe,
)
from tvm_conv3dt.files import real_path
from tvm_conv3dt.level import Kernel, Level, LibraryFile, ScheduleSummary
from tvm_conv3dt.manifest import FILE_NAME, CudaRuntime, Layer, Manifest, Platform
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

__all__ = ["build_bundle"]

_LICENCES = ("LICENSE", "NOTICE")


def build_bundle(
    named: Sequence[NamedWorkload],
    devices: Sequence[Device],
    output: Path,
    *,
    schedules: Iterable[Path] | None = None,
    allow_untuned: bool = False,
    runtime: Path | None = None,
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
    runtime : Path, optional
        TVM's runtime library for the devices, or a wheel that holds it; by default the installed one or, for
        another architecture, one of the same version that is downloaded (see `target_runtime.place`).
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
        If a workload cannot be compiled yet.
    LibraryError
        If `runtime` is not for these devices, or there is no runtime library to be had.
    WorkloadNotFoundError
        If there is no schedule for a workload and a device, and `allow_untuned` is false.
    FileWriteError
        If `output` is something else than a bundle, or cannot be written.
    """
    named = list({each.name: each for each in named}.values())
    levels = levels_of(devices)
    for each, device in itertools.product(named, levels):
        require_compilable(each.workload, device)
    folders = list(paths.schedule_folders() if schedules is None else schedules)
    chosen = {
        device: [(each, _schedule(each, device, folders, allow_untuned)) for each in named]
        for device in levels
    }
    output = real_path(output)  # what a link names is replaced, not the link
    _require_replaceable(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
        try:
            manifest = _fill(staging, chosen, runtime, with_wrapper, on_progress)
            staging.chmod(0o755)
            _replace(staging, output)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        if isinstance(error, Conv3dtError):
            raise
        raise _not_written(output, error) from error
    return manifest


def _schedule(
    each: NamedWorkload, device: Device, folders: list[Path], allow_untuned: bool
) -> Schedule:
    found = schedule_file.find(each.workload, device, folders)
    if found is not None:
        return found
    if allow_untuned:
        return schedule.default_schedule(each.workload, device)
    names = (device.name, *device.fallback)
    searched = ", ".join(str(folder / name) for name in names for folder in folders)
    raise WorkloadNotFoundError(
        describe(
            "build",
            "workload",
            each.name,
            f"there is no schedule for it in {searched}",
            f"tune it: {schedule.how_to_tune(each.workload.id, device.name)}, or build the default point with --allow-untuned",
        )
    )


def _fill(
    folder: Path,
    chosen: Mapping[Device, Sequence[tuple[NamedWorkload, Schedule]]],
    given_runtime: Path | None,
    with_wrapper: bool,
    on_progress: Callable[[str], None] | None,
) -> Manifest:
    first = next(iter(chosen))
    # Before the kernels: what is missing here would be found out minutes later.
    runtime, cuda_runtime = _place_runtime(folder, first, given_runtime)
    levels, toolkit = [], ""
    for device, layers in chosen.items():
        kernels: list[Kernel] = []
        compiled: dict[Workload, Kernel] = {}
        for each, its_schedule in layers:
            if on_progress is not None:
                on_progress(f"{each.name} for {device.name}")
            if each.workload in compiled:  # equal layers share a library
                kernels.append(replace(compiled[each.workload], layer=each.name))
                continue
            built = kernel.compile_kernel(
                its_schedule.layout(device), device, its_schedule.apply(device)
            )
            toolkit = "" if built.gpu is None else built.gpu.toolkit
            kernels.append(_kernel(folder, each, its_schedule, built))
            compiled[each.workload] = kernels[-1]
        host, arch = host_of(device), device.arch if device.kind == "cuda" else None
        levels.append(Level(device.name, host.mcpu, host.cpu_features, tuple(kernels), arch))
    manifest = Manifest(
        package=tvm_conv3dt.__version__,
        tvm=tvm.__version__,
        tvm_ffi=metadata.version("apache-tvm-ffi"),
        definition=definition.VERSION,
        platform=Platform(first.kind, first.os, host_of(first).arch),
        runtime=runtime,
        cuda=None if cuda_runtime is None else CudaRuntime(cuda_runtime, cudart.NAME, toolkit),
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


def _place_runtime(
    folder: Path, device: Device, given: Path | None
) -> tuple[LibraryFile | None, LibraryFile | None]:
    """Copy TVM's runtime library, for GPUs also the part that drives them, with TVM's licence."""
    found = target_runtime.place(folder, host_of(device), gpu=device.kind == "cuda", given=given)
    if found:
        for name in _LICENCES:
            shutil.copyfile(Path(tvm.__file__).parent / name, folder / f"{name}.tvm")
    runtime, cuda, *_ = (*map(LibraryFile.of, found), None, None)
    return runtime, cuda


def _require_replaceable(output: Path) -> None:
    if output == Path.cwd() or output.is_mount():
        rule = "a folder that is in use cannot be replaced by another"
        raise FileWriteError(describe("write", "bundle", str(output), rule, "name a folder in it"))
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
    known = {FILE_NAME, *(f"{name}.tvm" for name in _LICENCES)}
    return found <= known | {library.file for library in manifest.libraries}


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
    reason = os.strerror(error.errno) if error.errno else str(error)
    mend = "check its permissions and the free space, or name another folder"
    return FileWriteError(describe("write", "bundle", str(output), reason, mend))
