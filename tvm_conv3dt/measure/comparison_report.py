"""Layers beside their peers as people and programs read them: a table, Markdown, and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

from tvm_conv3dt.measure.ceiling import Ceilings
from tvm_conv3dt.measure.comparison import BESIDE, OURS, Comparison, summary, workspace_bound
from tvm_conv3dt.measure.report import arithmetic, figure, gflops
from tvm_conv3dt.measure.watch import ENOUGH, Turns

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["markdown", "remarks", "table", "to_dict"]

# How a peer's cell names a layout that is not the only one of its peer.
_SHORT = {"channels_last_3d": "cl", "contiguous": "cf", "NDHWC": "cl", "NCDHW": "cf"}
_SHORT_TYPES = {"float32": "f32"}


def table(comparisons: Sequence[Comparison], ceilings: Ceilings, order: Sequence[str]) -> Table:
    """Return a table to print with rich, one line per layer.

    Parameters
    ----------
    comparisons : sequence of Comparison
        The layers.
    ceilings : Ceilings
        What the shares refer to.
    order : sequence of str
        The peers, as columns; and `BESIDE`, where another bundle was timed too.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    result = Table(box=SIMPLE_HEAD)
    for heading in _headings(order):
        left = heading in ("layer", "limit")
        result.add_column(heading, justify="left" if left else "right", no_wrap=left)
    for each in comparisons:
        result.add_row(*_cells(each, ceilings, order))
    return result


def markdown(
    comparisons: Sequence[Comparison],
    ceilings: Ceilings,
    order: Sequence[str],
    turns: Turns,
) -> str:
    """Return the same table and its remarks as Markdown."""
    headings = _headings(order)
    rule = ["---" if heading in ("layer", "limit") else "---:" for heading in headings]
    lines = [headings, rule, *(_cells(each, ceilings, order) for each in comparisons)]
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    items = "\n".join(f"- {line}" for line in remarks(comparisons, ceilings, order, turns))
    return f"{rows}\n\n{items}\n"


def remarks(
    comparisons: Sequence[Comparison],
    ceilings: Ceilings,
    order: Sequence[str],
    turns: Turns,
) -> list[str]:
    """Return the lines that belong below the table: means, ceilings, what columns mean, failures."""
    found = summary(comparisons, ceilings)
    lines = []
    if found.speedup is not None and found.fresh_speedup is not None and found.least_speedup:
        name, least = found.least_speedup
        lines.append(
            f"speed-up over the best peer, geometric mean: {found.speedup:.2f} with out=, "
            f"{found.fresh_speedup:.2f} with fresh outputs; least {least:.2f} ({name}, out=)"
        )
    if found.beside_speedup is not None and found.least_beside_speedup:
        name, least = found.least_beside_speedup
        lines.append(
            f"speed-up over the bundle beside, geometric mean: {found.beside_speedup:.2f} with out=; "
            f"least {least:.2f} ({name})"
        )
    if found.less_exact_speedup is not None:
        lines.append(
            f"the same with peers that round float32 to TF32, which no speed-up above counts: "
            f"{found.less_exact_speedup:.2f} with out="
        )
    if found.share is not None and found.fresh_share is not None:
        lines.append(
            f"share of the roofline, geometric mean: {found.share:.3f} with out=, "
            f"{found.fresh_share:.3f} with fresh outputs"
        )
    over = ", ".join(found.over_workspace)
    lines.append(
        "workspace above its bound, the larger of 1 MB and 5 % of the output: " + (over or "none")
    )
    lines.append(
        f"ceilings, {ceilings.gpu or f'{ceilings.threads} threads'}: {arithmetic(ceilings)}, large copy "
        f"{figure(ceilings.copy_gbs)} GB/s, large write {figure(ceilings.write_gbs)} GB/s{_moves(ceilings)}"
    )
    if ceilings.nominal:
        lines.append(
            "the GPU's arithmetic is what its highest clock and its units give, and was not measured: the kernels for "
            "that need the compiler (tvm-conv3dt[compiler,cuda]), which is missing here or refused them"
        )
    elif ceilings.gpu is not None and ceilings.matrix_gflops is not None:
        lines.append(
            "tensor cores are measured by the instructions that kernels here use, which all architectures have: a "
            "library with others of its own can pass that"
        )
    elif ceilings.gpu is None and ceilings.fma_gflops is None:
        lines.append(
            "the compute limit is the matrix product, which kernels can pass: the kernel that measures the peak "
            "of multiply-adds needs the compiler (tvm-conv3dt[compiler]), which is missing here or refused it"
        )
    lines += _peaks(comparisons, ceilings)
    reaching = [each.workload.reaching for each in comparisons if each.workload.reached]
    if reaching and min(reaching) < 1:
        lines.append(
            "operations are two for each input position, tap and pair of channels, in the compute limit too; "
            f"{geometric_mean(reaching):.1%} of them (geometric mean) reach an output, padding cuts off the others"
        )
    lines.append(
        "times are medians in ms; ± is half the distance of the quartiles; ours are checked against the "
        "reference, the peers' results against ours"
    )
    if turns.dropped or turns.disturbed:
        lines.append(
            f"of {turns.taken} turns {turns.dropped} do not count, and {turns.disturbed} count though they are disturbed: before "
            f"or after them the machine did less than {ENOUGH:.0%} of the arithmetic that it did at its best"
        )
        disturbed = ", ".join(each.name for each in comparisons if each.disturbed)
        lines.append(
            f"layers with disturbed turns, where not everybody had a quiet one: {disturbed or 'none'}"
        )
        if found.speedup_by_best is not None and found.least_speedup_by_best:
            name, least = found.least_speedup_by_best
            lines.append(
                "by the least time of each instead of the median, which disturbances spare most, the speed-up over the best "
                f"peer is {found.speedup_by_best:.2f} with out=; least {least:.2f} ({name})"
            )
    if set(order) - {BESIDE}:
        lines.append(_outputs(comparisons, order))
    for each in comparisons:
        lines += [
            f"{each.name}, {name} failed: {failure.kind}: {failure.message}"
            for name, failure in each.failures.items()
        ]
    return lines


def to_dict(
    comparisons: Sequence[Comparison],
    ceilings: Ceilings,
    versions: Mapping[str, str],
    turns: Turns,
) -> dict[str, Any]:
    """Return all figures as a JSON object; times in milliseconds."""
    return {
        "schema": 2,
        "versions": dict(versions),
        "ceilings": asdict(ceilings),
        "turns": asdict(turns),
        "summary": asdict(summary(comparisons, ceilings)),
        "rows": [_row(each, ceilings) for each in comparisons],
    }


def _peaks(comparisons: Sequence[Comparison], ceilings: Ceilings) -> list[str]:
    """Say which limit of arithmetic the half types have on a CPU."""
    if ceilings.gpu is not None:
        return []
    lines = []
    products = {each.workload.product_dtype for each in comparisons}
    if "bfloat16" in products:
        lines.append(
            "the compute limit of bfloat16 is that of the matrix unit: what all threads reach with nothing but products of "
            "its tiles"
            if ceilings.bfloat16_gflops is not None
            else "the compute limit of bfloat16 is that of float32: there is no matrix unit, or no compiler for the kernel "
            "that measures it; instructions for dot products of bfloat16, which some CPUs have, can pass it"
        )
    if "float16" in products:
        lines.append(
            "the compute limit of float16 is that of float32, in which it is added: whatever adds in float16, as layers of "
            "that precision may, can pass it"
        )
    if any(_passes_vectors(each, ceilings) for each in comparisons):
        lines.append(
            "the compute limit of float32 is that of multiply-adds by vectors, one for each tap: layers above 100 % multiply in "
            "pieces on a matrix unit, or fewer times, by Winograd's filtering"
        )
    return lines


def _passes_vectors(comparison: Comparison, ceilings: Ceilings) -> bool:
    """Whether a layer of float32 took less time than vectors need for its arithmetic."""
    ours, workload = comparison.ours(), comparison.workload
    if ours is None or workload.product_dtype != "float32" or ceilings.fma_gflops is None:
        return False
    return ours.median < ceilings.compute_seconds(workload)


def _moves(ceilings: Ceilings) -> str:
    """Say at what speed the layers' own bytes were moved."""
    rates = ceilings.move_gbs.values()
    if not rates:
        return ""
    return f", each layer's own bytes {figure(min(rates))} to {figure(max(rates))} GB/s"


def _row(each: Comparison, ceilings: Ceilings) -> dict[str, Any]:
    workload, seconds = each.workload, ceilings.seconds(each.workload)
    return {
        "name": each.name,
        "id": workload.id,
        "flops": workload.flops,
        "bytes": workload.bytes,
        "limit": ceilings.limit(workload),
        "peak": ceilings.peak_name(workload),
        "peak_gflops": ceilings.peak_of(workload),
        "ceiling_ms": seconds * 1e3,
        "compute_ms": ceilings.compute_seconds(workload) * 1e3,
        "memory_ms": ceilings.memory_seconds(workload) * 1e3,
        "workspace_bytes": each.workspace_bytes,
        "workspace_bound": workspace_bound(workload),
        "speedup": each.speedup(),
        "fresh_speedup": each.speedup("fresh"),
        "speedup_by_best": each.speedup_by_best(),
        "beside_speedup": each.beside_speedup(),
        "disturbed": each.disturbed,
        "timings": [
            {
                "implementation": entry.implementation,
                "layout": entry.layout,
                "output": entry.output,
                "median_ms": entry.timing.median * 1e3,
                "q1_ms": entry.timing.q1 * 1e3,
                "q3_ms": entry.timing.q3 * 1e3,
                "best_ms": entry.timing.best * 1e3,
                "count": entry.timing.count,
                "gflops": gflops(workload, entry.timing),
                "share": seconds / entry.timing.median,
            }
            for entry in each.entries
        ],
        "failures": {name: asdict(failure) for name, failure in each.failures.items()},
    }


def _headings(order: Sequence[str]) -> list[str]:
    compared = [name for name in order if name != BESIDE]
    if compared:
        compared.append("× best")
    if BESIDE in order:
        compared += [BESIDE, f"× {BESIDE}"]
    return [
        "layer",
        "limit",
        "ceiling",
        "out=",
        "±",
        "fresh",
        *compared,
        "GFLOP/s",
        "of ceiling",
        "workspace MB",
    ]


def _cells(each: Comparison, ceilings: Ceilings, order: Sequence[str]) -> list[str]:
    workload, ours, fresh = each.workload, each.ours(), each.ours("fresh")
    share, speedup = each.share(ceilings), each.speedup()
    failed = f"failed: {each.failures[OURS].kind}" if OURS in each.failures else ""
    compared = [_peer(each, name) for name in order if name != BESIDE]
    if compared:
        compared.append("" if speedup is None else f"{speedup:.2f}")
    if BESIDE in order:
        beside = each.beside_speedup()
        compared += [_peer(each, BESIDE), "" if beside is None else f"{beside:.2f}"]
    return [
        each.name,
        ceilings.limit(workload),
        figure(ceilings.seconds(workload) * 1e3),
        failed if ours is None else figure(ours.median * 1e3),
        "" if ours is None else f"{ours.spread / 2:.0%}",
        "" if fresh is None else figure(fresh.median * 1e3),
        *compared,
        "" if ours is None else figure(gflops(workload, ours)),
        "" if share is None else f"{share:.0%}",
        f"{each.workspace_bytes / 1e6:.2f}",
    ]


def _peer(each: Comparison, name: str) -> str:
    if name in each.failures:
        return f"failed: {each.failures[name].kind}"
    best = each.best(name)
    if best is None:
        return ""
    several = len({entry.layout for entry in each.entries if entry.implementation == name}) > 1
    layout = f" {_short(best.layout)}" if several else ""
    return f"{figure(best.timing.median * 1e3)}{layout}"


def _short(layout: str) -> str:
    name, _, rest = layout.partition(" ")
    return " ".join([_SHORT.get(name, name), *([_SHORT_TYPES.get(rest, rest)] if rest else [])])


def _outputs(comparisons: Sequence[Comparison], order: Sequence[str]) -> str:
    """Say what the peers do with their outputs' memory, and what the layouts' short names mean."""
    order = [name for name in order if name != BESIDE]
    entries = [entry for each in comparisons for entry in each.entries]
    found = {entry.implementation: entry.output for entry in entries}
    outputs = ", ".join(f"{name} {found[name]}" for name in order if name in found)
    wide = any(
        entry.layout.endswith(" float32") for entry in entries if entry.implementation in order
    )
    note = "; f32: it took and gave float32 arrays, with a hint to compute in the layer's type"
    return (
        f"peers' outputs: {outputs or 'none'}; cl and cf: its faster layout was channels last "
        "(NDHWC, channels_last_3d) or channels first (NCDHW, contiguous)" + (note if wide else "")
    )
