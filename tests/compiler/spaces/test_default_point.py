"""Is the default point a sensible point of the space, for every layer and device?"""

from dataclasses import replace
from math import prod

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt import workload_set
from tvm_conv3dt.compiler.spaces.default_point import default_point, default_points, estimate
from tvm_conv3dt.compiler.spaces.llvm import formulations, layout_of, points
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.winograd import Filtering
from tvm_conv3dt.compiler.winograd_layout import WinogradLayout
from tvm_conv3dt.spec import Workload

CPUS = [name for name in catalogue.names()[1:] if catalogue.get(name).kind == "llvm"]
V3 = catalogue.get("x86-64-v3")
DECODER = Workload.make((1, 12, 32, 64, 64), (3, 3, 3, 64, 64), (1, 24, 64, 128, 64), 2)


@pytest.mark.parametrize("name", CPUS)
def test_every_real_layer_has_one(name):
    device = catalogue.get(name)
    for each in workload_set.resolve("suite"):
        chosen = default_point(each.workload, device)
        assert chosen in set(points(each.workload, device)), each.name


def test_it_has_the_least_estimate():
    chosen = estimate(DECODER, V3, default_point(DECODER, V3))
    assert chosen == min(estimate(DECODER, V3, point) for point in points(DECODER, V3))


def test_points_come_once_each():
    found = list(points(DECODER, V3))
    assert len(found) == len(set(found))


@pytest.mark.parametrize("cores", [2, 4, 64])
def test_more_cores_never_cost_more(cores):
    for point in points(DECODER, V3):
        one, many = (estimate(DECODER, replace(V3, cores=count), point) for count in (1, cores))
        assert many <= one


@pytest.mark.parametrize(("cores", "most"), [(1, 6), (2, 4), (3, 3), (4, 2), (8, 1)])
def test_rows_that_are_none_idle_at_the_end(cores, most):
    """Six rows of positions are eight tasks, shared out in order: of two cores the first has four that do something."""
    workload = Workload.make((1, 40, 6, 48, 24), (4, 4, 4, 2, 24), (1, 80, 12, 96, 2), 2)
    point = Point("dot", "rows-deep", 1)
    found, task = (estimate(workload, replace(V3, cores=count), point) for count in (cores, 6))
    assert found == pytest.approx(most / 2 * task)


def test_estimate_cannot_beat_the_multipliers():
    products = DECODER.flops / 2 / (V3.vector_bits // 32)  # vector instructions
    for point in points(DECODER, V3):
        layout = layout_of(DECODER, V3, point.formulation)
        # What Winograd's filtering leaves of the products of all taps.
        axes = layout.filterings if isinstance(layout, WinogradLayout) else ()
        share = prod(each.products / Filtering(each.axis, 1).products for each in axes)
        assert estimate(DECODER, V3, point) >= share * products / 2 / V3.cores


def test_a_single_position_reads_each_filter_once():
    workload = Workload.make((1, 1, 1, 1, 200), (4, 4, 4, 512, 200), (1, 4, 4, 4, 512), 1, "VALID")
    assert default_point(workload, V3).order == "filters"


def test_many_positions_share_a_register_tile():
    chosen = default_point(DECODER, V3)
    assert chosen.tile_w * chosen.vectors >= 8


def test_one_accumulator_at_a_time_is_estimated_slower():
    slow = estimate(DECODER, V3, Point("phases", "rows", 1))
    assert slow > 2 * estimate(DECODER, V3, default_point(DECODER, V3))


@pytest.mark.parametrize(
    ("name", "pairs"), [("x86-64-v4-bf16", True), ("x86-64-v4", False), ("x86-64-v4-amx", False)]
)
def test_halves_are_multiplied_in_pairs_where_that_is_twice_as_fast(name, pairs):
    device, half = catalogue.get(name), DECODER.recast(dtype="bfloat16")
    assert (default_point(half, device).formulation == "pairs-phases") is pairs


@pytest.mark.parametrize("channels", [64, 30])
def test_blocks_are_estimated_at_half_the_time_of_pairs(channels):
    graviton = catalogue.get("neoverse-v1")
    half = Workload.make(
        (1, 8, 24, 48, 64), (3, 3, 3, channels, 64), (1, 16, 48, 96, channels), 2, dtype="bfloat16"
    )
    found = {p.formulation: estimate(half, graviton, p) for p in default_points(half, graviton)}
    assert 1.6 < found["pairs-phases"] / found["mmla-phases"] < 2.2
    assert default_point(half, graviton).formulation == "mmla-phases"


def test_pairs_of_vectors_beside_a_matrix_unit_are_estimated_slower():
    half = Workload.make(
        (1, 8, 16, 16, 64), (3, 3, 3, 1, 64), (1, 16, 32, 32, 1), 2, dtype="bfloat16"
    )
    beside, alone = (
        min(estimate(half, device, p) for p in points(half, device) if p.formulation == "dot-pairs")
        for device in (catalogue.get("x86-64-v4-amx"), catalogue.get("x86-64-v4-bf16"))
    )
    assert beside > 1.5 * alone


@pytest.mark.parametrize("kernel", [2, 3])
def test_each_formulation_has_its_best_point(kernel):
    workload = Workload.make((1, 4, 8, 8, 16), (*[kernel] * 3, 1, 16), (1, 8, 16, 16, 1), 2)
    found = default_points(workload, V3)
    assert {point.formulation for point in found} == set(formulations(workload, V3))
    assert len(found) == len({point.formulation for point in found})
    costs = [estimate(workload, V3, point) for point in found]
    assert costs == sorted(costs)
    for point, cost in zip(found, costs, strict=True):
        others = [p for p in points(workload, V3) if p.formulation == point.formulation]
        assert cost == min(estimate(workload, V3, other) for other in others)


def test_rows_that_taps_read_again_are_counted_once():
    """An input that stays near is read by tasks of filters, though all taps of all rows together would not."""
    workload = Workload.make(
        (1, 6, 6, 6, 384), (3, 3, 3, 64, 384), (1, 12, 12, 12, 64), 2, bias=True
    )
    device = replace(catalogue.get("x86-64-v4"), cores=2, l2_bytes=2 << 20)
    assert default_point(workload, device).order == "filters"


@pytest.mark.parametrize("device", ["x86-64-v3", "x86-64-v4"])
def test_output_that_outgrows_the_caches_is_written_in_order(device):
    """And by all phases of a row, one after the other."""
    large = Workload.make((1, 40, 40, 41, 1), (5, 5, 5, 16, 1), (1, 80, 80, 82, 16), 2)
    assert default_point(large, catalogue.get(device)).order != "filters"
