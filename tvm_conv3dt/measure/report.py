"""Figures as people and programs read them: a table, and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tvm_conv3dt.measure.ceiling import Ceilings
from tvm_conv3dt.measure.timing import Timing
from tvm_conv3dt.spec import Workload

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Row", "arithmetic", "figure", "gflops", "series", "share", "table", "to_dict"]


@dataclass(frozen=True)
class Row:
    """One workload and the times of its implementations.

    Attributes
    ----------
    name : str
        The workload's short name.
    workload : Workload
        What was computed.
    timings : mapping of str to Timing
        By implementation, such as ``"untuned"`` and ``"tuned"``; a workload may lack some.
    """

    name: str
    workload: Workload
    timings: Mapping[str, Timing]


def gflops(workload: Workload, timing: Timing) -> float:
    """Return useful operations per second, in 1e9, by the median."""
    return workload.flops / timing.median / 1e9


def share(workload: Workload, timing: Timing, ceilings: Ceilings) -> float:
    """Return the median's speed as a share of the roofline's."""
    return ceilings.seconds(workload) / timing.median


def figure(value: float) -> str:
    """Return a positive number with three digits, without an exponent where it is large."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:#.3g}"


def arithmetic(ceilings: Ceilings) -> str:
    """Return the limits of arithmetic in words."""
    limits = ceilings.compute_limits.items()
    return ", ".join(f"{name} {figure(limit)} GFLOP/s" for name, limit in limits)


def series(rows: Sequence[Row]) -> list[str]:
    """Return the implementations of all rows, in the order in which they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row.timings))


def table(rows: Sequence[Row], ceilings: Ceilings, title: str = "") -> Table:
    """Return a table to print with rich.

    Parameters
    ----------
    rows : sequence of Row
        One line for each of their implementations.
    ceilings : Ceilings
        What the shares refer to.
    title : str
        Above the table.

    Returns
    -------
    rich.table.Table
        Median in ms, half the distance of its quartiles, GFLOP/s, and share of the roofline.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    result = Table(
        title=title or None,
        box=SIMPLE_HEAD,
        caption=f"ceilings: {arithmetic(ceilings)}, copy {figure(ceilings.copy_gbs)} GB/s",
    )
    names = series(rows)
    result.add_column("layer", no_wrap=True)
    if len(names) > 1:
        result.add_column("", no_wrap=True)
    for heading in ("ms", "±", "GFLOP/s", "of ceiling"):
        result.add_column(heading, justify="right", no_wrap=True)
    result.add_column("limited by", no_wrap=True)
    for row in rows:
        first = True
        for name in names:
            if name in row.timings:
                result.add_row(*_cells(row, name, ceilings, first, len(names) > 1))
                first = False
    return result


def to_dict(rows: Sequence[Row], ceilings: Ceilings) -> dict[str, Any]:
    """Return the figures as a JSON object; times in milliseconds."""
    return {
        "ceilings": asdict(ceilings),
        "rows": [
            {
                "name": row.name,
                "id": row.workload.id,
                "flops": row.workload.flops,
                "bytes": row.workload.bytes,
                "limit": ceilings.limit(row.workload),
                "ceiling_ms": ceilings.seconds(row.workload) * 1e3,
                "timings": {
                    name: {
                        "median_ms": timing.median * 1e3,
                        "q1_ms": timing.q1 * 1e3,
                        "q3_ms": timing.q3 * 1e3,
                        "best_ms": timing.best * 1e3,
                        "count": timing.count,
                        "gflops": gflops(row.workload, timing),
                        "share": share(row.workload, timing, ceilings),
                    }
                    for name, timing in row.timings.items()
                },
            }
            for row in rows
        ],
    }


def _cells(row: Row, name: str, ceilings: Ceilings, first: bool, several: bool) -> list[str]:
    timing = row.timings[name]
    return [
        row.name if first else "",
        *([name] if several else []),
        figure(timing.median * 1e3),
        f"{timing.spread / 2:.0%}",
        figure(gflops(row.workload, timing)),
        f"{share(row.workload, timing, ceilings):.0%}",
        ceilings.limit(row.workload) if first else "",
    ]
