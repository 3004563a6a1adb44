"""Layers beside their peers as pictures: bars per layer, and all layers under the roofline."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tvm_conv3dt.errors import FileWriteError, describe
from tvm_conv3dt.measure.ceiling import Ceilings
from tvm_conv3dt.measure.comparison import OURS, Comparison
from tvm_conv3dt.measure.report import gflops

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["available", "draw_layers", "draw_roofline"]

# After Okabe and Ito's, which most colour-blind people can tell apart; ours is the darkest.
_COLOURS = ("#0072b2", "#e69f00", "#e3a0c4", "#3cb98f", "#bdbdbd", "#f0e442", "#e8844a")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_INK = "#333333"
_CLOSE = 1.5  # lines of which one is at most so many times the other


def available() -> bool:
    """Return whether pictures can be drawn: whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_layers(
    path: str | os.PathLike[str],
    comparisons: Sequence[Comparison],
    ceilings: Ceilings,
    order: Sequence[str],
    title: str = "",
) -> None:
    """Write a PNG of bars: each implementation's share of every layer's roofline.

    Parameters
    ----------
    path : path-like
        The file to write.
    comparisons : sequence of Comparison
        The layers, from top to bottom.
    ceilings : Ceilings
        The machine's limits.
    order : sequence of str
        The peers.
    title : str
        Above the picture.

    Raises
    ------
    FileWriteError
        If the operating system refuses to write the file.
    """
    names = [OURS, *order]
    height = 0.84 / len(names)
    bars = max(6, len(comparisons) * len(names))
    canvas, axes = _canvas(9, 1.8 + 0.13 * bars + 0.1 * len(comparisons), title)
    for index, name in enumerate(names):
        places, widths = [], []
        for line, each in enumerate(comparisons):
            entry = each.best(name)
            place = line - 0.42 + (index + 0.5) * height
            if entry is not None:
                places.append(place)
                widths.append(100 * ceilings.seconds(each.workload) / entry.timing.median)
            elif name in each.failures:
                note = f" failed: {each.failures[name].kind}"
                axes.text(0, place, note, va="center", fontsize=6, color=_INK)
        # Of no bars at all the legend would not know the colour.
        places, widths = places or [0.0], widths or [0.0]
        axes.barh(places, widths, height * 0.92, color=_colour(index), label=name)
    axes.axvline(100, color=_INK, linewidth=1.2)
    axes.set_yticks(range(len(comparisons)), [each.name for each in comparisons])
    axes.set_ylim(max(len(comparisons), 1) - 0.4, -0.6)
    axes.set_xlabel(
        "share of the layer's roofline in %: medians; ours with out=, each framework's best layout"
    )
    axes.grid(visible=True, axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=len(names),
        frameon=False,
        fontsize=9,
    )
    _save(canvas, path)


def draw_roofline(
    path: str | os.PathLike[str],
    comparisons: Sequence[Comparison],
    ceilings: Ceilings,
    order: Sequence[str],
    title: str = "",
) -> None:
    """Write a PNG of speed over operations per byte, under the machine's limits.

    Parameters
    ----------
    path, comparisons, ceilings, order, title
        As for `draw_layers`.

    Raises
    ------
    FileWriteError
        If the operating system refuses to write the file.
    """
    canvas, axes = _canvas(9, 6, title)
    intensities = [each.workload.flops / each.workload.bytes for each in comparisons]
    ridge = ceilings.peak_gflops / ceilings.copy_gbs
    low, high = min([ridge, *intensities]) / 2, max([ridge, *intensities]) * 2
    reachable = [
        each.workload.flops / ceilings.seconds(each.workload) / 1e9 for each in comparisons
    ]
    speeds = [ceilings.peak_gflops, *reachable]
    for index, name in reversed(list(enumerate([OURS, *order]))):  # ours on top
        points = [
            (intensity, gflops(each.workload, entry.timing))
            for intensity, each in zip(intensities, comparisons, strict=True)
            if (entry := each.best(name)) is not None
        ]
        speeds += [speed for _, speed in points]
        across, up = [x for x, _ in points], [y for _, y in points]
        axes.scatter(
            across,
            up,
            s=46 if name == OURS else 26,
            marker=_MARKERS[index % len(_MARKERS)],
            color=_colour(index),
            edgecolors="white",
            linewidths=0.5,
            label=name,
            zorder=3,
        )
    # A layer's own limit is above the line where caches hold what it moves.
    label = "limit at the layer's own bytes"
    axes.scatter(
        intensities,
        reachable,
        s=180,
        color=_INK,
        marker="_",
        linewidths=1.4,
        label=label,
        zorder=2,
    )
    roof = [low * ceilings.copy_gbs, ceilings.peak_gflops, ceilings.peak_gflops]
    label = f"large copy: {ceilings.copy_gbs:.0f} GB/s"
    axes.plot([low, ridge, high], roof, color=_INK, linewidth=1.4, label=label)
    _annotate(axes, ceilings, high)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(min(speeds) / 2, max(speeds) * 2)
    axes.set_xlabel("operations per byte: input, filters and output moved once")
    axes.set_ylabel("GFLOP/s of useful work")
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", fontsize=8)
    _save(canvas, path)


def _annotate(axes: Axes, ceilings: Ceilings, right: float) -> None:
    """Write the names of the limits of arithmetic at their lines, those of two that are close on either side."""
    above = math.inf
    for name, limit in sorted(ceilings.compute_limits.items(), key=lambda item: -item[1]):
        if limit < ceilings.peak_gflops:
            axes.axhline(limit, color=_INK, linewidth=1, linestyle=":", zorder=1)
        close = above < limit * _CLOSE
        axes.annotate(
            f"{name} {limit:.0f} GFLOP/s",
            (right, limit),
            (-4, -4 if close else 4),
            textcoords="offset points",
            ha="right",
            va="top" if close else "bottom",
            color=_INK,
        )
        above = limit


def _canvas(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    # A figure of its own, without pyplot: no display is needed, and no global state is left.
    canvas = Figure(figsize=(width, height), layout="constrained", dpi=120)
    axes = canvas.subplots()
    if title:
        canvas.suptitle(title, color=_INK, fontsize=10)
    return canvas, axes


def _save(canvas: Figure, path: str | os.PathLike[str]) -> None:
    try:
        canvas.savefig(os.fspath(path), format="png")
    except OSError as error:
        rule = error.strerror or str(error)
        raise FileWriteError(describe("write", "picture", str(path), rule)) from error


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]
