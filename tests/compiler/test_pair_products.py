"""Are kernels of pairs right, with the instruction and without it, and is it what their code has?"""

import re
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")
pytest.importorskip("ml_dtypes")

from tvm import te

from tvm_conv3dt import cpu
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.dot_layout import DOT_HALVES, DOT_PAIRS
from tvm_conv3dt.compiler.pair_products import multiplies_pairs, multiply_pairs, pair
from tvm_conv3dt.compiler.spaces import llvm
from tvm_conv3dt.reference import random_data, reference

from .geometries import evenly
from .orders import of_each_order, one_in_turn

V4 = catalogue.get("x86-64-v4")
PAIRS = replace(catalogue.get("x86-64-v4-bf16"), cores=2)
GRAVITON = catalogue.get("neoverse-v1")
FORMULATIONS = (DOT_PAIRS, DOT_HALVES, "pairs-phases")


def make(channels=(35, 1), **more):
    return evenly(channels, **{"dtype": "bfloat16", **more})


def with_instruction(bits=512):
    """A device with the instruction, of which this machine is one."""
    if not set(PAIRS.cpu_features) <= cpu.features():
        pytest.skip("this CPU has no AVX512-BF16")
    return replace(PAIRS, vector_bits=bits)


def without_instruction(host, bits=512):
    """This machine, whose vectors have as many lanes: the same schedules, and the same packing."""
    mattr = tuple(each for each in host.mattr if each not in ("+avx512bf16", "+bf16"))
    return replace(host, mattr=mattr, vector_bits=bits, vector_registers=32)


DOTS = {
    **{f"{c} inputs": make((c, 1)) for c in (32, 33, 40, 63, 95)},
    **{f"{c} outputs": make((35, c)) for c in (2, 3)},
    **{f"width {w}": make((32, 1), width=w) for w in (1, 2, 17)},
    "no stride": make((37, 3), stride=1, kernel=2),
    "stride above the kernel": make(stride=4),
    "ends early": make(stride=2, tail=1),
    "bias and relu": make((64, 2), bias=True, activation="relu"),
}
CHANNELS = {
    **{f"{c} inputs": make((c, 17)) for c in (1, 2, 3, 8, 31, 33)},
    **{f"{c} outputs": make((5, c)) for c in (1, 8, 16, 35)},
    **{f"width {w}": make((6, 20), width=w) for w in (1, 2, 17)},
    "no stride": make((7, 18), stride=1, kernel=2),
    "stride above the kernel": make((4, 16), stride=4),
    "ends early": make((4, 16), tail=1),
    "no zeros around": make((6, 16), kernel=2, padding="VALID"),
    "bias and relu": make((9, 33), bias=True, activation="relu"),
}
CASES = [
    *((formulation, name) for formulation in (DOT_PAIRS, DOT_HALVES) for name in DOTS),
    *(("pairs-phases", name) for name in CHANNELS),
]


def case(formulation, name):
    return (CHANNELS if formulation == "pairs-phases" else DOTS)[name]


@pytest.mark.parametrize("place", range(len(CASES)), ids=[" ".join(each) for each in CASES])
def test_orders_are_exact_without_the_instruction(place, host, inexact):
    """In turns, as the loops are those with the instruction; all where there is no code with it."""
    formulation, name = CASES[place]
    workload, device = case(formulation, name), without_instruction(host)
    points = of_each_order(workload, device, formulation)
    if formulation != DOT_HALVES:
        points = one_in_turn(points, place)
    assert inexact(workload, device, points) == []


@pytest.mark.parametrize(("formulation", "name"), [each for each in CASES if each[0] != DOT_HALVES])
def test_every_order_is_exact_with_the_instruction(formulation, name, inexact):
    workload, device = case(formulation, name), with_instruction()
    assert inexact(workload, device, of_each_order(workload, device, formulation)) == []


@pytest.mark.parametrize("bits", [128, 256])
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_shorter_vectors_are_exact(formulation, bits, host, inexact):
    workload = make((19, 2), bias=True)
    device = without_instruction(host, bits)
    assert inexact(workload, device, of_each_order(workload, device, formulation)) == []


@pytest.mark.parametrize("bits", [128, 256])
@pytest.mark.parametrize("formulation", [DOT_PAIRS, "pairs-phases"])
def test_shorter_vectors_are_exact_with_the_instruction(formulation, bits, inexact):
    workload, device = make((19, 2), bias=True), with_instruction(bits)
    assert inexact(workload, device, of_each_order(workload, device, formulation)) == []


@pytest.mark.parametrize("formulation", ["pairs-fold-dhw", "pairs-fold-hw", "pairs-fold-w"])
def test_folded_phases_are_exact(formulation, host, inexact):
    workload, device = make((5, 3), kernel=4), without_instruction(host)
    assert inexact(workload, device, of_each_order(workload, device, formulation)) == []


def test_float32_rows_are_rounded_on_their_way(host, inexact):
    workload = make((7, 17), dtype="float32", precision="bfloat16", bias=True)
    device = without_instruction(host)
    assert inexact(workload, device, of_each_order(workload, device, "pairs-phases")) == []


@pytest.mark.parametrize("formulation", [DOT_PAIRS, "pairs-phases"])
def test_error_of_the_instruction_is_that_of_one_rounding(formulation, call, built):
    workload, device = make((95, 2), bias=True), with_instruction()
    data = random_data(workload, seed=0)
    point = of_each_order(workload, device, formulation)[0]
    found = call(built(workload, device, point), *data).astype(np.float64)
    x, filters, bias = (np.asarray(each, np.float64) for each in data)
    expected = reference(workload, x, filters, bias)
    scale = reference(workload, abs(x), abs(filters), abs(bias))
    assert np.all(abs(found - expected) <= 2.0**-8 * abs(expected) + 1e-6 * scale)


@pytest.mark.parametrize("formulation", [DOT_HALVES, "pairs-phases"])
def test_infinity_stays_where_it_belongs(formulation, host, call, built):
    """Channels that two blocks share, zeros around rows and the one beside an odd channel do not meet it."""
    workload, device = make((35, 1)), without_instruction(host)
    x, filters, _ = random_data(workload, seed=0)
    x[0, 1, 1, 4, 34] = np.inf
    point = of_each_order(workload, device, formulation)[0]
    found = call(built(workload, device, point), x, filters).astype(np.float64)
    expected = reference(workload, x, filters).astype(np.float64)
    assert np.array_equal(np.isinf(found), np.isinf(expected))
    assert not np.isnan(found).any()


def assembly(workload, device, formulation, built):
    point = of_each_order(workload, device, formulation)[0]
    return built(workload, device, point).module.mod.inspect_source("asm")


@pytest.mark.parametrize(
    ("device", "instruction"),
    [
        (PAIRS, r"vdpbf16ps\s.*%zmm\d"),
        (replace(PAIRS, vector_bits=256), r"vdpbf16ps\s.*%ymm\d"),
        (GRAVITON, r"bfdot\s+v\d+\.4s, v\d+\.8h"),
    ],
    ids=["512 bits", "256 bits", "aarch64"],
)
@pytest.mark.parametrize("formulation", [DOT_PAIRS, "pairs-phases"])
def test_code_has_the_instruction_and_nothing_that_widens(formulation, device, instruction, built):
    text = assembly(make((32, 2)), device, formulation, built)
    assert re.search(instruction, text)
    assert not re.search(r"conv3d_transpose_pairs|vfmadd|\bfmla\b|vpmovzxwd|\bu?shll2?\s+v", text)


def test_halves_are_loaded_as_whole_vectors(built):
    text = assembly(make((32, 1)), V4, DOT_HALVES, built)
    assert re.search(r"vpslld\s+\$16, .*%zmm\d", text)
    assert not re.search(r"vpmovzxwd|vpunpck", text)


@pytest.mark.parametrize(
    ("device", "workload", "expected"),
    [
        (V4, make((32, 1)), {DOT_HALVES}),
        (PAIRS, make((32, 1)), {DOT_HALVES, DOT_PAIRS, "pairs-phases"}),
        (PAIRS, make((31, 1)), {"pairs-phases"}),
        (PAIRS, make((32, 1), kernel=9), {DOT_PAIRS, "pairs-phases"}),
        (PAIRS, make((32, 16)), {"pairs-phases"}),
        (PAIRS, make((32, 1)).recast(data_format="NCDHW"), set()),
        (PAIRS, make((32, 1), dtype="float32"), set()),
        (PAIRS, make((32, 1), dtype="float32", precision="bfloat16"), {"pairs-phases"}),
        (GRAVITON, make((32, 1)), {DOT_PAIRS, "pairs-phases"}),
        (catalogue.get("aarch64"), make((32, 1)), set()),
    ],
)
def test_pairs_are_offered_where_they_are_of_use(device, workload, expected):
    found = set(llvm.formulations(workload, device))
    assert found & {*FORMULATIONS} == expected


def test_matrix_units_multiply_pairs_of_output_channels_instead():
    device = replace(PAIRS, cpu_features=(*PAIRS.cpu_features, "amx_bf16"))
    assert multiplies_pairs(device)
    assert "pairs-phases" not in llvm.formulations(make((32, 16)), device)


@pytest.mark.parametrize(("second", "joined"), [(1, True), (3, False)])
def test_only_neighbours_are_loaded_as_a_pair(second, joined):
    x = te.placeholder((64,), "uint16", "x")
    y = te.compute((16,), lambda i: pair(x[2 * i], x[2 * i + second]), "y")
    function = multiply_pairs(te.create_prim_func([x, y]))
    assert ("T.Ramp" in str(function)) is joined
