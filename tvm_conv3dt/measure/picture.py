"""Figures as a picture: bars per layer, and all layers under the roofline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tvm_conv3dt.errors import FileWriteError, PlatformError, describe
from tvm_conv3dt.measure.ceiling import Ceilings
from tvm_conv3dt.measure.report import Row, figure, gflops, series

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.patheffects import AbstractPathEffect

__all__ = ["draw"]

# After Okabe and Ito's, which most colour-blind people can tell apart, and light enough for black text.
_COLOURS = ("#bdbdbd", "#56b4e9", "#e69f00", "#3cb98f", "#e3a0c4", "#f0e442", "#e8844a")
_INK = "#333333"


def draw(
    path: str | os.PathLike[str], rows: Sequence[Row], ceilings: Ceilings, title: str = ""
) -> None:
    """Write a PNG picture of the figures.

    Parameters
    ----------
    path : path-like
        The file to write.
    rows : sequence of Row
        The layers.
    ceilings : Ceilings
        The machine's limits.
    title : str
        Above the picture.

    Raises
    ------
    PlatformError
        If matplotlib is not installed.
    FileWriteError
        If the operating system refuses to write the file.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        mend = "install it with: pip install tvm-conv3dt[plot]"
        rule = "the package matplotlib is not installed"
        raise PlatformError(describe("draw", "picture", str(path), rule, mend)) from error
    # A figure of its own, without pyplot: no display is needed, and no global state is left.
    canvas = Figure(figsize=(12, 1.8 + 0.42 * max(7, _bars(rows))), layout="constrained", dpi=120)
    left, right = canvas.subplots(1, 2, width_ratios=(1.15, 1))
    _draw_bars(left, rows, ceilings)
    _draw_roofline(right, rows, ceilings)
    if title:
        canvas.suptitle(title, color=_INK)
    try:
        canvas.savefig(os.fspath(path), format="png")
    except OSError as error:
        rule = error.strerror or str(error)
        raise FileWriteError(describe("write", "picture", str(path), rule)) from error


def _bars(rows: Sequence[Row]) -> int:
    return len(rows) * len(series(rows))


def _draw_bars(axes: Axes, rows: Sequence[Row], ceilings: Ceilings) -> None:
    names = series(rows)
    height = 0.8 / max(1, len(names))
    for index, name in enumerate(names):
        for line, row in enumerate(rows):
            timing = row.timings.get(name)
            if timing is None:
                continue
            speed = gflops(row.workload, timing)
            place = line - 0.4 + (index + 0.5) * height
            axes.barh(place, speed, height * 0.92, color=_colour(index))
            note = f"  {figure(speed)} GFLOP/s   {figure(timing.median * 1e3)} ms"
            axes.text(0, place, note, va="center", fontsize=8)
    for line, row in enumerate(rows):
        reachable = row.workload.flops / ceilings.seconds(row.workload) / 1e9
        axes.plot([reachable] * 2, [line - 0.44, line + 0.44], color=_INK, linewidth=1.6)
    handles: list[Artist] = [_patch(_colour(index)) for index in range(len(names))]
    axes.legend(
        [*handles, _line()],
        [*names, "ceiling"],
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=len(names) + 1,
        frameon=False,
        fontsize=9,
    )
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(max(len(rows), 1) - 0.4, -0.6)
    axes.set_xlabel("GFLOP/s of useful work")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _draw_roofline(axes: Axes, rows: Sequence[Row], ceilings: Ceilings) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    names = series(rows)
    ridge = ceilings.peak_gflops / ceilings.copy_gbs
    intensities = [row.workload.flops / row.workload.bytes for row in rows]
    low = min([ridge, *intensities]) / 3
    high = max([ridge, *intensities]) * 3
    roof = [low * ceilings.copy_gbs, ceilings.peak_gflops, ceilings.peak_gflops]
    axes.plot([low, ridge, high], roof, color=_INK, linewidth=1.6)
    reachable = [row.workload.flops / ceilings.seconds(row.workload) / 1e9 for row in rows]
    # A layer's own limit is above the line where caches hold what it moves.
    axes.scatter(intensities, reachable, s=180, color=_INK, marker="_", linewidths=1.4, zorder=2)
    speeds = [ceilings.peak_gflops, *reachable]
    for index, name in enumerate(names):
        points = [
            (intensity, gflops(row.workload, row.timings[name]))
            for intensity, row in zip(intensities, rows, strict=True)
            if name in row.timings
        ]
        speeds += [speed for _, speed in points]
        across, up = zip(*points, strict=True)
        axes.scatter(across, up, s=42, color=_colour(index), zorder=3)
    for intensity, row in zip(intensities, rows, strict=True):
        best = max(gflops(row.workload, timing) for timing in row.timings.values())
        axes.annotate(
            row.name,
            (intensity, best),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            path_effects=_halo(),
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(min(speeds) / 3, max(speeds) * 2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    for name, limit in ceilings.compute_limits.items():
        if limit < ceilings.peak_gflops:
            axes.axhline(limit, color=_INK, linewidth=1, linestyle=":", zorder=1)
        axes.annotate(
            f"{name} {limit:.0f} GFLOP/s",
            (high, limit),
            xytext=(-4, 4),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            color=_INK,
        )
    axes.set_xlabel(f"operations per byte moved (large copy: {ceilings.copy_gbs:.0f} GB/s)")
    axes.set_ylabel("GFLOP/s")
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("Roofline", fontsize=10, color=_INK)


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _patch(colour: str) -> Artist:
    from matplotlib.patches import Patch

    return Patch(color=colour)


def _line() -> Artist:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=_INK, linewidth=1.6)


def _halo() -> list[AbstractPathEffect]:
    # Text that is readable on any bar and any line.
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground="white")]
