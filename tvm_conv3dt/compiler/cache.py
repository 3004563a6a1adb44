"""A cache of compiled workloads, on disk, shared by processes: each entry is a small bundle.

An entry's path has everything that decides on its content: the package's version, TVM's and tvm-ffi's, the definition's, the
manifest's schema, the device with its cores and caches, the schedule, and the workload. So nothing in it is
ever stale, and nothing is overwritten. An entry that has lost a file is built again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import tvm
import tvm_ffi
from filelock import FileLock

import tvm_conv3dt
from tvm_conv3dt import paths
from tvm_conv3dt.compiler import definition, schedule_file
from tvm_conv3dt.compiler.bundle_writer import build_bundle
from tvm_conv3dt.compiler.target import resolve
from tvm_conv3dt.errors import (
    Conv3dtError,
    FileFormatError,
    FileWriteError,
    SignatureError,
    describe,
)
from tvm_conv3dt.manifest import Manifest
from tvm_conv3dt.manifest_schema import SCHEMA
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

__all__ = ["bundle_for", "folder"]


def folder() -> Path:
    """Return the cache's folder, see `paths.user_cache`."""
    return paths.user_cache()


def bundle_for(workload: Workload) -> Path:
    """Return a bundle that holds `workload` for this machine; it is built if there is none.

    A schedule that fits is used, from the working directory or the package; else the design space's default
    point.

    Raises
    ------
    UnsupportedError
        If the workload cannot be compiled yet.
    CompileError
        If it does not compile.
    FileWriteError
        If the cache cannot be written.
    """
    device = resolve("host")
    folders = paths.schedule_folders()
    try:
        found = schedule_file.find(workload, device, folders)
    except SignatureError:
        # Made with another TVM: of no use here, and no reason to fail. `build` says so.
        found, folders = None, []
    key = {
        "package": tvm_conv3dt.__version__,
        "tvm": tvm.__version__,
        "tvm_ffi": tvm_ffi.__version__,
        "definition": definition.VERSION,
        "manifest": SCHEMA,
        "device": asdict(device),
        "schedule": None if found is None else found.trace,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    entry = folder() / digest / workload.id
    try:
        if _is_whole(entry):
            return entry
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(entry.parent / f"{workload.id}.lock"):
            if not _is_whole(entry):
                shutil.rmtree(entry, ignore_errors=True)  # a cleaned disk may have left a part
                named = [NamedWorkload(workload.id, workload)]
                build_bundle(named, [device], entry, schedules=folders, allow_untuned=True)
    except OSError as error:
        if isinstance(error, Conv3dtError):
            raise
        mend = "set TVM_CONV3DT_CACHE to a folder that can be written"
        raise FileWriteError(describe("write", "cache", str(entry), str(error), mend)) from error
    return entry


def _is_whole(entry: Path) -> bool:
    try:
        libraries = Manifest.read(entry).libraries
        return all((entry / each.file).stat().st_size == each.bytes for each in libraries)
    except (FileFormatError, FileNotFoundError):
        return False
