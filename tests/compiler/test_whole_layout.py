"""Are rows that a tile takes whole right without zeros around them, and is nothing multiplied that is not there?"""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.spaces import channel_nest, llvm
from tvm_conv3dt.compiler.spaces.default_point import default_point
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.compiler.whole_layout import WholeLayout
from tvm_conv3dt.reference import reference
from tvm_conv3dt.spec import DATA_FORMATS, Workload

from .geometries import COMMON, evenly
from .geometries import make as of_geometry
from .orders import of_each_order, one_in_turn

NAME = "whole-phases"
CASES = {
    **{f"kernel {k}": evenly((5, 17), kernel=k, width=3) for k in (3, 4, 7)},
    **{f"stride {s}": evenly((5, 17), kernel=4, stride=s, width=3) for s in (1, 3)},
    **{f"width {w}": evenly((3, 16), width=w) for w in (2, 7)},
    "output ends early": evenly((5, 33), kernel=4, width=3, tail=1),
    "bias and relu": evenly((5, 33), width=4, bias=True, activation="relu"),
    "dilation": evenly((5, 17), width=3, dilations=2),
    "float64": evenly((5, 9), width=3, dtype="float64"),
    **{name: of_geometry(geometry, 2, 8, 16) for name, geometry in COMMON.items()},
}
FITTING = {name: workload for name, workload in CASES.items() if WholeLayout.fits(workload)}


@pytest.mark.parametrize(("turn", "name"), list(enumerate(FITTING)))
def test_orders_are_exact(turn, name, host, inexact):
    workload = FITTING[name]
    points = one_in_turn(of_each_order(workload, host, NAME), turn)
    assert inexact(workload, host, points) == []


def test_cases_fit_that_are_no_common_geometries():
    assert set(CASES) - set(COMMON) <= set(FITTING)


@pytest.mark.parametrize("bits", [128, 256, 512])
def test_every_tile_of_rows_is_exact(bits, host, inexact):
    workload = evenly((5, 33), kernel=4, width=3)
    device = replace(host, vector_bits=bits)
    layout = llvm.layout_of(workload, device, NAME)
    points = [
        Point(NAME, family.order, family.vectors, family.tile_h, 3)
        for family in channel_nest.families(layout, device)
        if family.order != "rows"
    ]
    assert {point.tile_h for point in points} == {1, 2, 3}
    assert inexact(workload, device, points) == []


@pytest.mark.parametrize("value", [np.inf, np.nan], ids=str)
def test_value_reaches_what_it_is_multiplied_into_and_no_more(value, host, call, built):
    """Zeros that are not there are not multiplied by an infinite filter."""
    workload = evenly((3, 16), width=4)
    x = np.ones(workload.input, np.float32)
    filters = np.ones(workload.filters, np.float32)
    filters[1, 1, 0] = value
    expected = reference(workload, x, filters)
    assert np.isfinite(expected).any()
    for point in of_each_order(workload, host, NAME):
        found = call(built(workload, host, point), x, filters)
        np.testing.assert_array_equal(found, expected.astype(np.float32))


@pytest.mark.parametrize(
    ("workload", "offered"),
    [
        (evenly((32, 32), width=4), True),
        (evenly((32, 32), width=8), True),
        (evenly((32, 32), width=9), False),
        (evenly((32, 32), width=4, kernel=2, padding="VALID"), False),  # no zeros around
        (evenly((32, 32), width=4, dtype="float16"), False),  # copied anyway, to be widened
        (evenly((32, 32), width=4).recast(data_format="NCDHW"), False),  # turned
    ],
)
def test_short_rows_with_zeros_around_are_taken_whole(workload, offered):
    device = catalogue.get("x86-64-v4")
    assert (NAME in llvm.formulations(workload, device)) == offered
    assert default_point(workload, device).formulation == (NAME if offered else "phases")


def test_nothing_is_copied(host, built):
    workload = evenly((32, 32), width=4)
    points = of_each_order(workload, host, NAME)
    assert [built(workload, host, point).workspace_bytes for point in points] == [0] * len(points)


def test_share_of_taps_that_are_present():
    """Of four positions, two taps each, all phases: one in eight leads outside."""
    assert WholeLayout(evenly((1, 1), kernel=4, width=4), 16).present == 7 / 8


@pytest.mark.parametrize("data_format", DATA_FORMATS)
def test_one_position_has_all_its_taps(data_format):
    workload = Workload.make(
        (1, 1, 1, 1, 20), (4, 4, 4, 51, 20), (1, 4, 4, 4, 51), 1, padding="VALID"
    )
    assert not WholeLayout.fits(workload.recast(data_format=data_format))
