"""How it is computed on a CPU: the formulations, and the nest of loops of each.

`tvm_conv3dt.compiler.spaces.channel_nest` is for output channels in the lanes,
`tvm_conv3dt.compiler.spaces.dot_nest` for input channels; `tvm_conv3dt.compiler.spaces.tile_nest` for matrix units.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import prod
from typing import Any

from tvm import s_tir

from tvm_conv3dt.compiler.definition import AnyLayout
from tvm_conv3dt.compiler.dot_layout import DOT, DOT_HALVES, DOT_PAIRS, DotLayout
from tvm_conv3dt.compiler.half_layout import HALVES, HalfLayout, adds_halves
from tvm_conv3dt.compiler.layout import PHASES, Layout, foldings
from tvm_conv3dt.compiler.mmla import multiplies_blocks
from tvm_conv3dt.compiler.mmla_layout import MMLA, MmlaLayout
from tvm_conv3dt.compiler.pair_layout import PAIRS, PairLayout
from tvm_conv3dt.compiler.pair_products import multiplies_pairs
from tvm_conv3dt.compiler.part_layout import PARTS, PartLayout
from tvm_conv3dt.compiler.spaces import (
    channel_nest,
    dot_nest,
    mmla_nest,
    tap_nest,
    tile_nest,
    winograd_nest,
)
from tvm_conv3dt.compiler.spaces.point import Choose, Family, Point
from tvm_conv3dt.compiler.spaces.tap_estimate import tap_formulations
from tvm_conv3dt.compiler.spaces.tile_nest import SPLIT_TILES, TILES
from tvm_conv3dt.compiler.spaces.winograd_estimate import winograd_formulations
from tvm_conv3dt.compiler.split_layout import SPLIT, SplitLayout, pays
from tvm_conv3dt.compiler.tap_layout import TAPS, TapLayout
from tvm_conv3dt.compiler.tile_layout import TileLayout
from tvm_conv3dt.compiler.unit_layout import SQUARE
from tvm_conv3dt.compiler.whole_layout import WHOLE, WholeLayout
from tvm_conv3dt.compiler.winograd_layout import WINOGRAD, WinogradLayout
from tvm_conv3dt.device import Device
from tvm_conv3dt.spec import DTYPES, Workload

__all__ = ["apply", "families", "formulations", "layout_of", "points", "points_of"]


@lru_cache(maxsize=64)
def layout_of(workload: Workload, device: Device, formulation: str) -> AnyLayout:
    """Return the layout of `workload` for the vectors of `device`."""
    if formulation.startswith(TAPS):
        return TapLayout.parse(workload, formulation)
    if formulation.startswith(SPLIT):
        return SplitLayout.parse(workload, formulation)
    if formulation.startswith("amx-"):
        return TileLayout.parse(workload, formulation)
    if formulation.startswith(MMLA):
        return MmlaLayout.of(workload, formulation.removeprefix(MMLA))
    lanes = device.lanes(DTYPES[workload.sum_dtype])
    if formulation.startswith(WINOGRAD):
        return WinogradLayout.parse(workload, lanes, formulation)
    if formulation.startswith(HALVES):
        return HalfLayout(workload, 2 * lanes, formulation.removeprefix(HALVES))
    if formulation.startswith(WHOLE):
        return WholeLayout(workload, lanes, formulation.removeprefix(WHOLE))
    if formulation.startswith(DOT):
        return DotLayout(workload, lanes, formulation)
    if formulation.startswith(PAIRS):
        return PairLayout(workload, lanes, formulation.removeprefix(PAIRS))
    if formulation.startswith(PARTS):
        return PartLayout(workload, lanes, formulation.removeprefix(PARTS))
    return Layout(workload, lanes, formulation)


# Positions of a phase from which on the products of filters' pieces may take longer than reading these, which are half as large again as
# filters: with 64 and 216 vectors took 0.7 and 0.84 of the time, with 567 longer.
_SPLIT_POSITIONS = 256


def formulations(workload: Workload, device: Device) -> list[str]:
    """Return the formulations that may be the fastest: more than one where output channels do not fill a vector.

    Phases are folded only where they all have the same taps: see `Layout.dense`.
    """
    found = _vector_formulations(workload, device)
    if "amx_bf16" in device.cpu_features:
        found += _tilings(workload, device) + tap_formulations(workload, device)
    return found


def _tilings(workload: Workload, device: Device) -> list[str]:
    """Return the formulations for a matrix unit."""
    if SplitLayout.fits(workload):
        return [each for each in _split_tilings(workload) if pays(each, device)]
    if not TileLayout.fits(workload):
        return []
    # None is folded, or all that has phases.
    layouts = (
        TileLayout.of(workload, squares, folding)
        for folding in [PHASES, *foldings(workload)[:1]]
        for squares in TILES
    )
    return [each.name for each in layouts if _fills(each)]


def _split_tilings(workload: Workload) -> list[str]:
    """Return those for float32: as vectors multiply it too, only where channels fill squares, and positions are many."""
    if prod(axis.quotients for axis in workload.phase_axes) * workload.batch < _SPLIT_POSITIONS:
        return []
    found = [PHASES]
    if workload.out_channels % (2 * SQUARE):
        found += foldings(workload)[:1]
    layouts = [
        SplitLayout.of(workload, squares, folding) for folding in found for squares in SPLIT_TILES
    ]
    return [
        each.name
        for each in layouts
        if workload.in_channels >= SQUARE <= each.channels and _fills(each)
    ]


def _fills(layout: TileLayout) -> bool:
    """Whether there is something for each square of a tile."""
    positions = (layout.squares - 1) * SQUARE
    channels = (layout.column_squares - 1) * SQUARE
    return positions < layout.flat and channels < layout.channels and layout.dense


def _vector_formulations(workload: Workload, device: Device) -> list[str]:
    lanes = device.lanes(DTYPES[workload.sum_dtype])
    # A matrix unit multiplies pairs too, and many more of them.
    paired = multiplies_pairs(device) and "amx_bf16" not in device.cpu_features
    plain = _channel_formulations(workload, lanes)
    found = list(plain)
    prefixes = [PAIRS] * (paired and PairLayout.fits(workload))
    prefixes += [MMLA] * (multiplies_blocks(device) and MmlaLayout.fits(workload))
    found += [prefix + each for prefix in prefixes for each in plain]
    if adds_halves(device) and HalfLayout.fits(workload):
        # Of use are the lanes that vectors of float32 have not.
        halves = _channel_formulations(workload, 2 * lanes)
        found += [HALVES + f for f in halves if Layout(workload, lanes, f).channels > lanes]
    found += winograd_formulations(workload, device)
    if workload.out_channels >= lanes:
        return found + [WHOLE + PHASES] * WholeLayout.fits(workload)
    found += [PARTS + f for f in plain if PartLayout.fits(workload, lanes, f)]
    return [*found, *_dots(workload, device, lanes)]


def _channel_formulations(workload: Workload, lanes: int) -> list[str]:
    """Return the formulations with output channels in so many lanes."""
    if workload.out_channels >= lanes:
        return [PHASES]
    layouts = [Layout(workload, lanes, f) for f in foldings(workload)]
    # As many channels as there are outputs in a volume would make one task of it all.
    return [PHASES, *(a.formulation for a in layouts if a.dense and a.channels <= lanes * 64)]


def _dots(workload: Workload, device: Device, lanes: int) -> list[str]:
    """Return the formulations with input channels in the lanes."""
    found = [f for f in (DOT, DOT_HALVES, DOT_PAIRS) if DotLayout.fits(workload, lanes, f)]
    if DOT_HALVES in found and not dot_nest.holds_halves(
        DotLayout(workload, lanes, DOT_HALVES), device
    ):
        found.remove(DOT_HALVES)
    if DOT_PAIRS in found and not multiplies_pairs(device):
        found.remove(DOT_PAIRS)
    return found


def families(layout: AnyLayout, device: Device) -> Iterator[Family]:
    """Yield the structural choices: one design space each."""
    yield from _nest_of(layout).families(layout, device)


def points(workload: Workload, device: Device) -> Iterator[Point]:
    """Yield every point of the space."""
    for formulation in formulations(workload, device):
        layout = layout_of(workload, device, formulation)
        for family in families(layout, device):
            yield from points_of(layout, device, family)


def points_of(layout: AnyLayout, device: Device, family: Family) -> Iterator[Point]:
    """Yield every point of a family."""
    yield from _nest_of(layout).points(layout, device, family)


def apply(
    sch: s_tir.Schedule, layout: AnyLayout, device: Device, family: Family, choose: Choose
) -> None:
    """Schedule an operator in place.

    Parameters
    ----------
    sch : tvm.s_tir.Schedule
        Holds the function of `tvm_conv3dt.compiler.definition.define`.
    layout, device
        What it computes, and where.
    family : Family
        The structural choices.
    choose : callable
        ``choose(name, candidates)`` gives the index of a decision's candidate, or None to sample it:
        a point's own method, or a search's.
    """
    _nest_of(layout).apply(sch, layout, device, family, choose)


def _nest_of(layout: AnyLayout) -> Any:
    """Return the module with the nest of a layout."""
    if isinstance(layout, TapLayout):
        return tap_nest
    if isinstance(layout, TileLayout):
        return tile_nest
    if isinstance(layout, MmlaLayout):
        return mmla_nest
    if isinstance(layout, WinogradLayout):
        return winograd_nest
    return dot_nest if isinstance(layout, DotLayout) else channel_nest


def within_bounds(layout: AnyLayout, device: Device, point: Point) -> bool:
    """Whether the copies that a point makes are allowed with so many cores as a device has."""
    within: bool = _nest_of(layout).within_bounds(layout, device, point)
    return within
