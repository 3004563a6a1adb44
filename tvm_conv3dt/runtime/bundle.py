"""A bundle: a folder with a manifest and the shared libraries of compiled workloads."""

from __future__ import annotations

import itertools
import os
import weakref
from pathlib import Path

from tvm_conv3dt.errors import ArgumentTypeError, WorkloadNotFoundError, describe, show
from tvm_conv3dt.level import Kernel, Level
from tvm_conv3dt.locks import Lock
from tvm_conv3dt.manifest import Layer, Manifest
from tvm_conv3dt.runtime import library, platform_check
from tvm_conv3dt.runtime.operator import Operator
from tvm_conv3dt.runtime.place import place_for
from tvm_conv3dt.spec import Workload

__all__ = ["Bundle", "load", "loaded"]

_lock = Lock()
# The bundles that this process holds, in the order of their loading.
_loaded: weakref.WeakValueDictionary[int, Bundle] = weakref.WeakValueDictionary()
_numbers = itertools.count()


def load(path: str | os.PathLike[str], *, level: str | None = None) -> Bundle:
    """Load a bundle, on the most demanding of its levels that this machine can run.

    The checks go from cheap to costly: the manifest; operating system and architecture; CPU features, the
    kernel's permission for a matrix unit where code uses one and, for GPUs, the driver and the first GPU that
    it shows, which decide on the level; the version of tvm-ffi; that every library is there with its right
    size; for GPUs the CUDA runtime library, which is found; TVM's runtime library, which is loaded. A layer's
    own library is checked and loaded by `Bundle.operator`.

    One process holds one libtvm_runtime. It can load any number of bundles of one TVM version; and it can
    import `tvm` after loading a bundle only where that is the TVM that built the bundle.

    Parameters
    ----------
    path : path-like
        The bundle's folder.
    level : str, optional
        The level to take instead, by its device's name, for tests and comparisons.

    Returns
    -------
    Bundle
        The loaded bundle.

    Raises
    ------
    ArgumentTypeError
        If `path` is no path.
    FileFormatError
        If the manifest is missing, damaged, or of a schema that this version does not read.
    PlatformError
        If this machine lacks something that the code of every level, or of the one named, needs: features of
        its CPU, the kernel's permission for its matrix unit, or a GPU of some compute capability, and a driver for it.
    DeviceError
        If the bundle has no level of that name.
    LibraryError
        If a library is missing, modified or not loadable, or versions do not fit; or if the CUDA runtime
        library is not found.
    """
    try:
        folder = Path(path)
    except TypeError as error:
        rule = "it must be the path of a folder"
        raise ArgumentTypeError(describe("load", "bundle", show(path), rule)) from error
    manifest = Manifest.read(folder)
    platform_check.check_machine(manifest)
    chosen = platform_check.choose_level(manifest, level)
    platform_check.check_versions(manifest)
    for kernel in itertools.chain.from_iterable(each.kernels for each in manifest.levels):
        library.check_present(folder, kernel.library)
    if manifest.cuda is not None:
        library.check_present(folder, manifest.cuda.library)
    library.load_runtime(folder, manifest)
    bundle = Bundle(folder, manifest, chosen)
    with _lock:
        _loaded[next(_numbers)] = bundle
    return bundle


def loaded() -> list[Bundle]:
    """Return the bundles that this process has loaded and still holds, oldest first."""
    with _lock:
        return [bundle for _, bundle in sorted(_loaded.items())]


class Bundle:
    """A loaded bundle; made by `load`."""

    def __init__(self, path: Path, manifest: Manifest, level: Level) -> None:
        self._path = path
        self._manifest = manifest
        self._level = level

    @property
    def path(self) -> Path:
        """The bundle's folder."""
        return self._path

    @property
    def manifest(self) -> Manifest:
        """What the bundle holds, on all its levels, and what made it."""
        return self._manifest

    @property
    def level(self) -> Level:
        """The level that is in use."""
        return self._level

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The workloads, each with its name."""
        return self._manifest.layers

    @property
    def workloads(self) -> dict[str, Workload]:
        """The workloads, by their names."""
        return {layer.name: layer.workload for layer in self.layers}

    def __contains__(self, which: object) -> bool:
        return self._find(which) is not None

    def __repr__(self) -> str:
        return f"<Bundle {self._path}: {len(self.layers)} layers for {self._level.device}>"

    def layer(self, which: str | Workload) -> Layer:
        """Return one layer.

        Parameters
        ----------
        which : str or Workload
            Its name, its workload's id, or the workload.

        Returns
        -------
        Layer
            The first that fits.

        Raises
        ------
        WorkloadNotFoundError
            If there is none.
        """
        layer = self._find(which)
        if layer is None:
            value = which.id if isinstance(which, Workload) else show(which)
            held = ", ".join(layer.name for layer in self.layers) or "nothing"
            raise WorkloadNotFoundError(
                describe("find", "workload", value, f"the bundle {self._path} holds {held}")
            )
        return layer

    def kernel(self, which: str | Workload) -> Kernel:
        """Return what one layer is on the level in use: its library, workspace and schedule.

        Parameters
        ----------
        which : str or Workload
            The layer's name, its workload's id, or the workload.

        Raises
        ------
        WorkloadNotFoundError
            If the bundle does not hold the workload.
        """
        return self._level.kernel(self.layer(which).name)

    def operator(
        self,
        which: str | Workload,
        filters: object,
        bias: object = None,
        *,
        gpu: int | None = None,
    ) -> Operator:
        """Load one workload's library and pack its filters.

        Parameters
        ----------
        which : str or Workload
            The layer's name, its workload's id, or the workload.
        filters : array-like
            Shape ``[kd, kh, kw, out_channels, in_channels]``, of the workload's dtype: a NumPy array, a tensor of
            PyTorch, TensorFlow or JAX, or anything else that exports DLPack from the CPU's memory. For a bundle that
            is for GPUs also from a GPU's.
        bias : array-like or None
            Shape ``[out_channels]``, where the workload has a bias, else None.
        gpu : int, optional
            For a bundle that is for GPUs: which one the operator works on, as CUDA counts them. By default the one
            that the filters are on, else the first.

        Returns
        -------
        Operator
            Call it with the input.

        Raises
        ------
        WorkloadNotFoundError
            If the bundle does not hold the workload.
        LibraryError
            If its library is missing, modified, not loadable, or lacks a function.
        ArgumentTypeError, ArrayError
            If filters or bias do not fit.
        DeviceError
            If `gpu` is given and the bundle is for CPUs.
        """
        layer = self.layer(which)
        kernel = self._level.kernel(layer.name)
        loaded = library.load_library(self._path, kernel.library)
        place = place_for(self._manifest.platform.kind, filters, gpu)
        return Operator(layer, kernel, loaded, filters, bias, place)

    def _find(self, which: object) -> Layer | None:
        if not isinstance(which, (str, Workload)):
            return None
        for layer in self.layers:
            if which in (layer.name, layer.id) or which == layer.workload:
                return layer
        return None
