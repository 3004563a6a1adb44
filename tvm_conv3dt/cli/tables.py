"""How workloads and bundles look as text."""

from __future__ import annotations

from collections.abc import Sequence

from tvm_conv3dt.cli import output
from tvm_conv3dt.manifest import Manifest
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload


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
    """Write a table of a bundle's layers to stdout."""
    requires = manifest.requires
    output.write_fields(
        {
            "device": f"{manifest.device.name} ({manifest.device.mcpu})",
            "needs": f"{requires.os} {requires.arch} {' '.join(requires.cpu_features)}",
            "made by": f"tvm_conv3dt {manifest.package}, tvm {manifest.tvm}, "
            f"tvm-ffi {manifest.tvm_ffi}, definition {manifest.definition}",
        }
    )
    rows = [
        (
            layer.name,
            layer.schedule.source,
            layer.schedule.formulation,
            "" if layer.schedule.median_ms is None else f"{layer.schedule.median_ms:.3f}",
            f"{layer.workspace_bytes / 1e6:.1f}",
            f"{layer.library.bytes / 1e3:.0f}",
            layer.id,
        )
        for layer in manifest.layers
    ]
    output.write_table(
        ("layer", "schedule", "formulation", ">tuned ms", ">workspace MB", ">library kB", "id"),
        rows,
    )
