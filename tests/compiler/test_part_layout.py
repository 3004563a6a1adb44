"""Are sums right whose products several lanes share, whatever the channels, and is every load of theirs one of a row?"""

import re
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import cpu
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.layout import PHASES
from tvm_conv3dt.compiler.part_layout import PartLayout
from tvm_conv3dt.compiler.spaces import llvm
from tvm_conv3dt.reference import random_data, reference
from tvm_conv3dt.spec import Workload

from .geometries import COMMON, evenly
from .geometries import make as of_geometry
from .orders import of_each_order, one_in_turn

NAME = "parts-phases"
V4 = catalogue.get("x86-64-v4")
CASES = {
    **{f"{c} inputs": evenly((c, 5)) for c in (2, 3, 7, 16, 33)},
    **{f"{c} outputs": evenly((6, c)) for c in (1, 2, 3, 4, 8)},
    **{f"width {w}": evenly((4, 3), width=w) for w in (1, 2, 17)},
    "no stride": evenly((9, 3), stride=1, kernel=2),
    "stride above the kernel": evenly((8, 4), stride=4),
    "ends early": evenly((5, 6), tail=1),
    "no zeros around": evenly((8, 4), kernel=1, padding="VALID"),
    "bias and relu": evenly((8, 8), bias=True, activation="relu"),
    **{name: of_geometry(geometry, 2, 6, 3) for name, geometry in COMMON.items()},
}


def of_bits(host, bits=512):
    return replace(host, vector_bits=bits)


@pytest.mark.parametrize(("turn", "name"), list(enumerate(CASES)))
def test_orders_are_exact(turn, name, host, inexact):
    workload, device = CASES[name], of_bits(host)
    points = one_in_turn(of_each_order(workload, device, NAME), turn)
    assert inexact(workload, device, points) == []


@pytest.mark.parametrize("channels", [(3, 1), (9, 2), (8, 4)], ids=str)
@pytest.mark.parametrize("bits", [128, 256])
def test_shorter_vectors_are_exact(bits, channels, host, inexact):
    workload, device = evenly(channels, bias=True), of_bits(host, bits)
    if not PartLayout.fits(workload, bits // 32, PHASES):
        pytest.skip("its channels fill these vectors")
    assert inexact(workload, device, of_each_order(workload, device, NAME)) == []


@pytest.mark.parametrize(
    "kind",
    [("NCDHW", "float32"), ("NDHWC", "float64"), ("NDHWC", "float16"), ("NCDHW", "bfloat16")],
    ids=str,
)
@pytest.mark.parametrize("channels", [(5, 1), (7, 3), (8, 4)], ids=str)
def test_other_formats_and_types_are_exact(channels, kind, host, inexact):
    workload, device = evenly(channels, tail=1).recast(*kind), of_bits(host)
    points = one_in_turn(of_each_order(workload, device, NAME), sum(channels))
    assert inexact(workload, device, points) == []


@pytest.mark.parametrize("folding", ["fold-w", "fold-hw", "fold-dhw"])
def test_folded_phases_are_exact(folding, host, inexact):
    workload, device = evenly((6, 1), kernel=2), of_bits(host)
    formulation = f"parts-{folding}"
    assert formulation in llvm.formulations(workload, device)
    assert inexact(workload, device, of_each_order(workload, device, formulation)) == []


@pytest.mark.parametrize("activation", ["elu", "tanh"])
def test_activation_is_of_whole_sums(activation, host, call, built):
    workload, device = evenly((6, 4), bias=True, activation=activation), of_bits(host)
    data = random_data(workload, seed=0)
    expected = reference(workload, *data)
    for point in of_each_order(workload, device, NAME):
        found = call(built(workload, device, point), *data)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [np.inf, np.nan], ids=str)
@pytest.mark.parametrize("channels", [(7, 3), (8, 8)], ids=str)
def test_value_reaches_what_it_is_multiplied_into_and_no_more(channels, value, host, call, built):
    """Zeros that fill up channels and lanes do not meet it where something is stored of them."""
    workload, device = evenly(channels), of_bits(host)
    x = np.ones(workload.input, np.float32)
    filters = np.ones(workload.filters, np.float32)
    x[0, 1, 1, 4, channels[0] - 1] = value
    expected = reference(workload, x, filters).astype(np.float32)
    assert np.isfinite(expected).any()
    for point in of_each_order(workload, device, NAME):
        np.testing.assert_array_equal(call(built(workload, device, point), x, filters), expected)


@pytest.mark.skipif(cpu.architecture() != "x86_64", reason="it is about instructions of x86-64")
def test_code_loads_runs_and_no_lanes(built):
    workload = evenly((16, 8), kernel=4)
    kernel = built(workload, V4, of_each_order(workload, V4, NAME)[0])
    module = getattr(kernel.module, "mod", kernel.module)
    code = "".join(
        each.inspect_source("asm") for each in [module, *module.imports] if each.kind == "llvm"
    )
    assert len(re.findall(r"vbroadcastsd\s[^\n]*\(", code)) > 10
    assert not re.findall(r"vinsertps|vpinsrd|vgather", code)


@pytest.mark.parametrize(
    ("channels", "lanes", "parts"),
    [
        ((8, 8), 16, 2),
        ((8, 9), 16, 1),
        ((8, 5), 8, 1),
        ((8, 4), 8, 2),
        ((40, 1), 16, 8),
        ((7, 1), 16, 4),
        ((1, 1), 16, 1),
    ],
)
def test_parts_are_as_many_as_lanes_and_channels_allow(channels, lanes, parts):
    workload = evenly(channels)
    assert PartLayout(workload, lanes).parts == parts
    assert PartLayout.fits(workload, lanes, PHASES) == (parts > 1)


def test_nothing_is_added_where_no_input_is_reached():
    unreached = Workload.make(
        *([1, 1, 1, 1, 4], [1, 1, 2, 3, 4], [1, 1, 1, 1, 3]), 1, (0, 0, 2), dilations=[1, 1, 4]
    )
    assert not PartLayout.fits(unreached, 16, PHASES)
