"""How workloads, bundles, schedules and logs look as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tvm_conv3dt.cli import output
from tvm_conv3dt.errors import FileFormatError, PlatformError, describe
from tvm_conv3dt.manifest import Manifest
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

if TYPE_CHECKING:
    from tvm_conv3dt.compiler.promote import Promotion

Row: TypeAlias = tuple[object, ...]


def workload_fields(workload: Workload) -> dict[str, object]:
    """Return a workload's arguments and sizes, by name."""
    return {
        **workload.to_dict(),
        "id": workload.id,
        "gflop": round(workload.flops / 1e9, 3),
        "mb": round(workload.bytes / 1e6, 3),
    }


def workload_table(named: Sequence[NamedWorkload], title: str) -> None:
    """Write a table of workloads to stdout."""
    rows = [
        (
            each.name,
            f"{each.workload.flops / 1e9:.2f}",
            f"{each.workload.bytes / 1e6:.1f}",
            each.workload.id,
        )
        for each in named
    ]
    output.write_table(("name", ">GFLOP", ">MB", "id"), rows, title)


def bundle_table(manifest: Manifest) -> None:
    """Write tables of a bundle's levels, and of its layers on each, to stdout."""
    fields = {
        "platform": f"{manifest.platform.os} {manifest.platform.arch}",
        "made by": f"tvm_conv3dt {manifest.package}, tvm {manifest.tvm}, "
        f"tvm-ffi {manifest.tvm_ffi}, definition {manifest.definition}",
    }
    if manifest.cuda is not None:
        cuda = manifest.cuda
        fields["cuda"] = f"kernels of CUDA {cuda.toolkit}, needs {cuda.cudart}"
    here, why_not = _on_this_machine(manifest)
    if why_not:
        fields["does not run"] = why_not
    output.write_fields(fields)
    rows: list[tuple[object, ...]] = []
    for level, word in zip(manifest.levels, here, strict=True):
        needs = (*((level.gpu_arch,) if level.gpu_arch else ()), *level.cpu_features)
        rows.append((level.device, level.mcpu, " ".join(needs), word))
    output.write_table(("level", "cpu", "needs", "on this machine"), rows)
    rows = []
    for level in manifest.levels:
        for layer, kernel in zip(manifest.layers, level.kernels, strict=True):
            rows.append(
                (
                    layer.name,
                    level.device,
                    kernel.schedule.source,
                    kernel.schedule.formulation,
                    milliseconds(kernel.schedule.median_ms),
                    f"{kernel.workspace_bytes / 1e6:.1f}",
                    f"{kernel.library.bytes / 1e3:.0f}",
                    layer.id,
                )
            )
    headings = ("layer", "level", "schedule", "formulation", ">tuned ms", ">workspace MB")
    output.write_table((*headings, ">library kB", "id"), rows)
    if manifest.cuda is not None:
        resources_table(manifest)


def resources_table(manifest: Manifest) -> None:
    """Write a table of what a bundle's functions take of a GPU to stdout."""
    ids = {layer.name: layer.id for layer in manifest.layers}
    rows = [
        (
            kernel.layer,
            level.device,
            each.name.removeprefix(
                f"{ids[kernel.layer]}_"
            ),  # the id fills the screen, and is above
            each.threads,
            each.registers,
            f"{each.shared_bytes / 1024:.1f}",
            each.spill_bytes,
            each.stack_bytes,
        )
        for level in manifest.levels
        for kernel in level.kernels
        for each in kernel.resources
    ]
    headings = ("layer", "level", "function", ">threads", ">registers")
    output.write_table((*headings, ">shared KiB", ">spill bytes", ">stack bytes"), rows)


def _on_this_machine(manifest: Manifest) -> tuple[list[str], str]:
    """Say for each level of a bundle whether this machine runs it, and why it runs none, whatever they need."""
    # Here, not above: this loads tvm-ffi, which other tables do not need.
    from tvm_conv3dt.runtime import platform_check

    try:
        lacking = platform_check.missing(manifest)
    except PlatformError as error:
        return ["does not run"] * len(manifest.levels), str(error)
    words = [f"lacks {' '.join(lacks)}" if lacks else "runs" for lacks in lacking]
    if "runs" in words:
        words[words.index("runs")] = "in use"
    return words, ""


def promotions_json(promotions: Sequence[Promotion]) -> dict[str, object]:
    """Return what was promoted, as JSON."""
    return {
        "promoted": [
            {
                "name": each.name,
                "id": each.schedule.workload.id,
                "device": each.schedule.device,
                "file": str(each.path),
                "decisions": dict(each.schedule.decisions),
                "measured": None
                if each.schedule.measurement is None
                else asdict(each.schedule.measurement),
            }
            for each in promotions
        ]
    }


def promotions_table(promotions: Sequence[Promotion]) -> None:
    """Write a table of what was promoted to stdout."""
    rows = []
    for each in promotions:
        measured = each.schedule.measurement
        rows.append(
            (
                each.name,
                "" if measured is None else milliseconds(measured.default_median_ms),
                "" if measured is None else milliseconds(measured.median_ms),
                "" if measured is None else f"{measured.gflops:.1f}",
                each.path,
            )
        )
    output.write_table(("workload", ">default ms", ">tuned ms", ">GFLOP/s", "schedule"), rows)


def schedules_table(records: Mapping[Path, Mapping[str, Any]]) -> None:
    """Write a table of schedule files to stdout; what a file lacks stays empty."""
    columns = ("device", ">default ms", ">tuned ms", ">GFLOP/s", "decisions", "id")
    output.write_table(columns, _rows(records, _schedule_row))


def logs_table(records: Mapping[Path, Mapping[str, Any]]) -> None:
    """Write a table of tuning logs' ``run.json`` to stdout; what a file lacks stays empty."""
    columns = ("device", ">runs", ">trials", ">failed", ">seconds", ">best ms", "id")
    output.write_table(columns, _rows(records, _log_row))


def _rows(
    records: Mapping[Path, Mapping[str, Any]], row: Callable[[Mapping[str, Any]], Row]
) -> list[Row]:
    rows = []
    for path, record in records.items():
        try:
            rows.append(row(record))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            rule = f"its fields are not those of a schedule or a tuning log: {error}"
            raise FileFormatError(describe("show", "file", str(path), rule)) from error
    return rows


def _schedule_row(record: Mapping[str, Any]) -> Row:
    measured = record.get("measured") or {}
    return (
        record.get("device", ""),
        milliseconds(measured.get("default_median_ms")),
        milliseconds(measured.get("median_ms")),
        measured.get("gflops", ""),
        " ".join(f"{name}={value}" for name, value in record.get("decisions", {}).items()),
        record.get("id", ""),
    )


def _log_row(record: Mapping[str, Any]) -> Row:
    runs = record.get("runs", [])
    best = [run["best_ms"] for run in runs if run.get("best_ms") is not None]
    return (
        record.get("device", ""),
        len(runs),
        sum(run.get("trials", 0) for run in runs),
        sum(sum(run.get("failures", {}).values()) for run in runs),
        f"{sum(run.get('seconds', 0) for run in runs):.0f}",
        milliseconds(min(best, default=None)),
        record.get("id", ""),
    )


def milliseconds(value: float | None) -> str:
    """Return a time for a table; nothing where there is none."""
    return "" if value is None else f"{value:.3f}"
