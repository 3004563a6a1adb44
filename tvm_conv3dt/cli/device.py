"""`device`: what this machine is, which catalogue entry fits, which versions are installed."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from tvm_conv3dt import __version__
from tvm_conv3dt.cli import fleet, options, output, runner
from tvm_conv3dt.cli.installed import has_compiler
from tvm_conv3dt.errors import LibraryError, PlatformError

if TYPE_CHECKING:
    from tvm_conv3dt.device import Device

_PACKAGES = ("numpy", "apache-tvm-ffi", "apache-tvm", "xgboost-cpu", "xgboost", "ziglang")
_C_COMPILERS = ("cc", "gcc", "clang")


@click.command("device")
@click.option("--list", "list_names", is_flag=True, help="List the catalogue's names instead.")
@click.option("--measure", is_flag=True, help="Measure speed ceilings too; takes some seconds.")
@runner.tracker
@options.as_json
def command(
    list_names: bool, measure: bool, tracker: tuple[str, int] | None, as_json: bool
) -> None:
    """Describe this machine, or with --tracker a fleet of boards; paste the output in a bug report.

    \b
    Example:
      tvm-conv3dt device --measure
    """
    if list_names:
        _list(as_json)
        return
    if tracker is not None:
        fleet.show(tracker, as_json)
        return
    facts = _facts()
    if measure:
        facts.update(_ceilings())
    if as_json:
        output.write_json(facts)
    else:
        output.write_fields({name: _text(value) for name, value in facts.items()})


def _list(as_json: bool) -> None:
    from tvm_conv3dt import device

    # The host is what `device` itself describes.
    catalogue = [device.get(name) for name in device.names() if name != device.HOST]
    if as_json:
        output.write_json({"devices": [asdict(entry) for entry in catalogue]})
        return
    rows = [
        (entry.name, entry.kind, entry.arch, entry.mcpu, " ".join(entry.cpu_features))
        for entry in catalogue
    ]
    output.write_table(("name", "kind", "arch", "cpu", "needs"), rows)


def _facts() -> dict[str, object]:
    from tvm_conv3dt import cpu, threads

    found = _host()
    return {
        "package": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()} {' '.join(platform.libc_ver())}".strip(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "usable_threads": threads.available(),
        "device": found.name,
        "compiles_for": found.mcpu,
        "schedules_from": [found.name, *found.fallback],
        "caches_bytes": [found.l1_bytes, found.l2_bytes, found.l3_bytes],
        "cpu_features": sorted(cpu.features()),
        **_cuda(),
        "c_compiler": next((name for name in _C_COMPILERS if shutil.which(name)), None),
        "packages": {name: _version(name) for name in _PACKAGES},
        "executable": sys.executable,
    }


def _cuda() -> dict[str, object]:
    """Return what there is of CUDA, and what is missing, as loading a bundle for GPUs would say it."""
    from tvm_conv3dt import cuda_driver, cudart

    facts: dict[str, object] = {"gpus": [], "cuda_driver": None, "cudart": None}
    missing = []
    try:
        driver = cuda_driver.find()
        facts["gpus"] = [{"name": gpu.name, "arch": gpu.arch} for gpu in driver.gpus]
        facts["cuda_driver"] = ".".join(map(str, driver.cuda))
    except PlatformError as error:
        missing.append(str(error))
    try:
        facts["cudart"] = cudart.load()
    except LibraryError as error:
        missing.append(str(error))
    return {**facts, "cuda_missing": missing}


def _host() -> Device:
    """Return this machine's entry; the compiler, where there is one, knows its CPU's name."""
    if has_compiler():
        return options.resolve_device("host")
    from tvm_conv3dt import device

    return device.host()


def _cpu_name() -> str:
    if find_spec("cpuinfo") is None:
        return platform.processor() or "unknown"
    import cpuinfo

    return str(cpuinfo.get_cpu_info().get("brand_raw", "unknown"))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _ceilings() -> dict[str, object]:
    from tvm_conv3dt import threads
    from tvm_conv3dt.cli import machine_peer
    from tvm_conv3dt.measure import ceiling

    count = threads.available()
    found, peak = ceiling.measure(count), machine_peer.peak_gflops(count)
    return {
        "fma_gflops": None if peak is None else round(peak, 1),
        "sgemm_gflops": round(found.compute_limits["matrix product"], 1),
        "copy_gbs": round(found.copy_gbs, 1),
    }


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {found}" for name, found in value.items() if found is not None)
    if isinstance(value, list):
        words = [_text(item) for item in value]
        return ("; " if any(" " in word for word in words) else " ").join(words) or "none"
    return "none found" if value is None else str(value)
