"""Is the nest for matrix units exact for float32, whose numbers are split into pieces, and as IEEE arithmetic has it?"""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.spaces import llvm, tile_nest
from tvm_conv3dt.compiler.spaces.default_point import default_point
from tvm_conv3dt.compiler.split_layout import SPLIT, SplitLayout
from tvm_conv3dt.measure.verify import verify
from tvm_conv3dt.reference import random_data, reference
from tvm_conv3dt.spec import DATA_FORMATS, Workload

from ..geometries import COMMON, evenly
from ..geometries import make as of_geometry
from ..orders import of_each_order, one_in_turn
from .conftest import repeats

UNIT = replace(catalogue.get("x86-64-v4-amx"), cores=2)


def points(workload, device, squares=(1, 1), folding="phases"):
    """One point of each order, with the largest tasks."""
    name = SplitLayout.of(workload, squares, folding).name
    return of_each_order(workload, device, name)


CASES = {
    **{f"kernel {k}": ((1, 1), evenly((32, 16), kernel=k)) for k in (1, 2, 5)},
    **{f"stride {s}": ((1, 1), evenly((32, 16), stride=s)) for s in (1, 4)},
    **{f"{c} inputs": ((1, 1), evenly((c, 16))) for c in (1, 33, 60)},
    **{f"{c} outputs": ((1, 2), evenly((32, c))) for c in (17, 60)},
    "output ends early": ((2, 2), evenly((32, 40), tail=1)),
    "rows of one position": (
        (1, 1),
        Workload.make((2, 2, 7, 1, 19), (3, 5, 3, 20, 19), (2, 5, 19, 1, 20), (3, 3, 1)),
    ),
    "bias and relu": ((1, 2), evenly((32, 32), bias=True, activation="relu")),
    **{
        f"tile of {rows}x{columns}": ((rows, columns), evenly((64, 16 * columns), width=17))
        for rows, columns in tile_nest.SPLIT_TILES
    },
    **{name: ((1, 1), of_geometry(geometry, 2, 8, 16)) for name, geometry in COMMON.items()},
}


@pytest.mark.parametrize(("turn", "name"), list(enumerate(CASES)))
def test_every_order_is_exact(turn, name, device, inexact):
    """In turns without the instructions, where the loops are those with them; all where this CPU has none."""
    squares, workload = CASES[name]
    found = points(workload, device, squares)
    if repeats(device):
        found = one_in_turn(found, turn)
    assert inexact(workload, device, found) == []


@pytest.mark.parametrize("channels", [(32, 16), (33, 17)])
def test_channels_first_are_exact(channels, device, inexact):
    workload = evenly(channels, bias=True).recast(data_format="NCDHW")
    assert inexact(workload, device, points(workload, device)) == []


def test_folded_phases_are_exact(device, inexact):
    workload = evenly((32, 24), kernel=2)
    assert inexact(workload, device, points(workload, device, (1, 2), "fold-dhw")) == []


# ---- pieces


@pytest.mark.parametrize("bits", [(18, 1), (1, 18), (9, 9), (13, 5)], ids=str)
@pytest.mark.parametrize("squares", [(1, 1), (2, 2)], ids=str)
def test_integers_of_many_bits_are_exact(bits, squares, device, call, built):
    """Each product has no more than 19 bits, and needs several pieces of one factor or of both."""
    workload = evenly((32, 32), kernel=1, stride=1, width=17)
    rng = np.random.default_rng(0)
    x, filters = (
        rng.integers(-(2**n), 2**n, shape, endpoint=True).astype(np.float32)
        for n, shape in zip(bits, (workload.input, workload.filters), strict=True)
    )
    expected = reference(workload, x, filters)
    assert abs(expected).max() < 2**24
    for point in points(workload, device, squares):
        np.testing.assert_array_equal(call(built(workload, device, point), x, filters), expected)


def test_error_is_that_of_float32(device, call, built):
    """Within what float32 sums of the same products may be off, and far from what bfloat16 would be."""
    workload = evenly((256, 32), bias=True)
    kernel = built(workload, device, points(workload, device, (2, 2))[0])
    checked = verify(workload, lambda x, f, b, out: np.copyto(out, call(kernel, x, f, b)))
    assert checked.passed
    data = random_data(workload, seed=0)
    error = abs(call(kernel, *data) - reference(workload, *data)).max()
    assert error < 2**-20 * abs(reference(workload, *data)).max()


# ---- what is no number


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan], ids=str)
def test_one_value_reaches_what_it_is_multiplied_into(value, device, call, built):
    """As what it is, also where pieces of what it meets are zero or have another sign."""
    workload = evenly((33, 20))
    rng = np.random.default_rng(0)
    x = rng.normal(size=workload.input).astype(np.float32)
    filters = rng.integers(1, 5, workload.filters).astype(np.float32)
    x[0, 1, 1, 3, 32] = value
    expected = reference(workload, x, filters)
    for point in points(workload, device, (1, 2)):
        found = call(built(workload, device, point), x, filters)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        infinite = np.isinf(expected)
        np.testing.assert_array_equal(np.isinf(found), infinite)
        np.testing.assert_array_equal(found[infinite], expected[infinite])
        rest = np.isfinite(expected)
        np.testing.assert_allclose(found[rest], expected[rest], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_largest_numbers_are_no_infinities(sign, device, call, built):
    """Rounded to bfloat16 they would be."""
    workload = evenly((32, 16), kernel=1, stride=1)
    x = np.zeros(workload.input, np.float32)
    x[..., 0] = sign * np.finfo(np.float32).max
    filters = np.full(workload.filters, 0.5, np.float32)
    for point in points(workload, device):
        found = call(built(workload, device, point), x, filters)
        np.testing.assert_array_equal(found, x[..., :1] * np.ones(16, np.float32) / 2)


def test_result_does_not_depend_on_the_threads(device, built, of_threads):
    workload = evenly((70, 33))
    data = random_data(workload, seed=0)
    kernels = [built(workload, device, each) for each in points(workload, device, (2, 2))]
    assert len(set(of_threads(kernels, data))) == 1


# ---- where it is offered


@pytest.mark.parametrize(
    ("channels", "more", "offered"),
    [
        ((32, 32), {}, True),
        ((15, 32), {}, False),
        ((32, 15), {}, False),
        ((32, 2), {"kernel": 2}, True),  # 16 folded ones
        ((32, 32), {"dtype": "float64"}, False),
        ((32, 32), {"width": 42}, False),  # 252 positions
    ],
)
def test_split_numbers_are_for_channels_that_fill_squares_and_many_positions(
    channels, more, offered
):
    names = llvm.formulations(evenly(channels, **{"width": 43, **more}), UNIT)
    assert any(each.startswith(SPLIT) for each in names) == offered


@pytest.mark.parametrize(
    ("size", "channels", "kernel", "split", "otherwise"),
    [
        (32, 64, 4, True, "winograd-"),
        (32, 64, 3, True, "winograd-"),
        (32, 64, 2, True, "phases"),  # of rows of 32 positions
        (4, 512, 3, False, "whole-phases"),  # and of four
        (4, 512, 4, False, "whole-phases"),
    ],
)
def test_default_splits_numbers_unless_filters_are_most_of_what_is_read(
    size, channels, kernel, split, otherwise
):
    workload = Workload.make(
        (1, *[size] * 3, channels),
        (*[kernel] * 3, channels, channels),
        (1, *[2 * size] * 3, channels),
        2,
    )
    assert default_point(workload, UNIT).formulation.startswith(SPLIT) == split
    without = catalogue.get("x86-64-v4")
    assert default_point(workload, without).formulation.startswith(otherwise)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
def test_copies_of_all_cores_stay_within_the_workspace(data_format, built):
    workload = evenly((64, 32), width=48).recast(data_format=data_format)
    for cores in (2, 4):
        device = replace(UNIT, cores=cores)
        for point in points(workload, device):
            bound = 1_000_000 + 3 * 4096 * cores
            assert built(workload, device, point).workspace_bytes <= bound, point
