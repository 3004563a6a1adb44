"""Are kernels that multiply and add in float16 right, and is that what their code does?"""

import re
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import cpu
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.half_layout import HALVES, HalfLayout
from tvm_conv3dt.compiler.spaces import llvm
from tvm_conv3dt.reference import random_data, reference
from tvm_conv3dt.spec import FLOAT16_TERMS

from .geometries import evenly
from .orders import of_each_order

V4 = catalogue.get("x86-64-v4")
FP16 = replace(V4, mattr=("+avx512fp16",), cpu_features=(*V4.cpu_features, "avx512_fp16"), cores=2)
BOARD = catalogue.get("raspberry-pi-5")
ROUNDOFF = 2.0**-11


def make(channels=(6, 40), **more):
    return evenly(channels, **{"dtype": "float16", "precision": "float16", **more})


def with_arithmetic(bits=512):
    """A device with arithmetic of float16, of which this machine is one."""
    if not set(FP16.cpu_features) <= cpu.features():
        pytest.skip("this CPU has no AVX512-FP16")
    return replace(FP16, vector_bits=bits)


CASES = {
    **{f"{c} inputs": make((c, 33)) for c in (1, 3, 17, 64)},
    "several blocks of a tap": make((2 * FLOAT16_TERMS, 32)),
    "zeros in the last block": make((2 * FLOAT16_TERMS + 5, 32), width=3),
    "no zeros around": make((FLOAT16_TERMS + 2, 32), kernel=2, padding="VALID"),
    "all in one block": make((5, 32), kernel=4),
    **{f"{c} outputs": make((5, c)) for c in (1, 17, 32, 70)},
    **{f"width {w}": make((6, 40), width=w) for w in (1, 2, 17)},
    "no stride": make((40, 36), stride=1, kernel=2),
    "stride above the kernel": make((4, 32), stride=4),
    "ends early": make((40, 32), tail=1),
    "dilated": make((40, 32), stride=1, dilations=2),
    "bias and relu": make((33, 33), bias=True, activation="relu"),
}


@pytest.mark.parametrize("name", CASES)
def test_every_order_is_exact_where_float16_has_every_sum(name, inexact):
    workload, device = CASES[name], with_arithmetic()
    assert inexact(workload, device, of_each_order(workload, device, "halves-phases")) == []


@pytest.mark.parametrize("formulation", ["halves-fold-dhw", "halves-fold-hw", "halves-fold-w"])
def test_folded_phases_are_exact(formulation, inexact):
    workload, device = make((70, 20), kernel=2), with_arithmetic()
    assert formulation in llvm.formulations(workload, device)
    assert inexact(workload, device, of_each_order(workload, device, formulation)) == []


@pytest.mark.parametrize("bits", [128, 256])
def test_shorter_vectors_are_exact(bits, inexact):
    workload, device = make((40, 18), bias=True), with_arithmetic(bits)
    assert inexact(workload, device, of_each_order(workload, device, "halves-phases")) == []


@pytest.mark.parametrize("activation", ["elu", "sigmoid", "tanh"])
def test_activation_is_of_float32_sums(activation, call, built):
    workload, device = make((4, 32), bias=True, activation=activation), with_arithmetic()
    x, filters, bias = (np.rint(2 * each) for each in random_data(workload, seed=0))
    point = of_each_order(workload, device, "halves-phases")[0]
    found = call(built(workload, device, point), x, filters / 4, bias)
    expected = reference(workload, x, filters / 4, bias)
    assert np.all(abs(found - expected) <= ROUNDOFF * abs(expected) + 1e-6)


@pytest.mark.parametrize("in_channels", [8, 64, 400])
def test_error_is_that_of_a_block_however_many_there_are(in_channels, call, built):
    workload, device = make((in_channels, 40), bias=True), with_arithmetic()
    data = random_data(workload, seed=0)
    point = of_each_order(workload, device, "halves-phases")[0]
    found = call(built(workload, device, point), *data).astype(np.float64)
    x, filters, bias = (each.astype(np.float64) for each in data)
    expected = reference(workload, x, filters, bias).astype(np.float64)
    terms = reference(replace(workload, bias=False), abs(x), abs(filters)).astype(np.float64)
    share = FLOAT16_TERMS * ROUNDOFF / (1 - FLOAT16_TERMS * ROUNDOFF)
    errors = abs(found - expected) - ROUNDOFF * abs(expected)
    assert np.all(errors <= share * terms)
    # Above one rounding: it is float16 that adds; and errors mostly cancel.
    assert ROUNDOFF / 4 < (errors / terms).max() < share / 8


def test_sum_beyond_float16_is_infinite_where_blocks_of_it_are(call, built):
    workload, device = make((FLOAT16_TERMS, 32), kernel=1, stride=1), with_arithmetic()
    x = np.full(workload.input, 32, np.float16)
    filters = np.full(workload.filters, 32, np.float16)
    filters[..., FLOAT16_TERMS // 2 :] *= -1
    point = of_each_order(workload, device, "halves-phases")[0]
    assert np.isposinf(call(built(workload, device, point), x, filters)).all()


@pytest.mark.parametrize("number", [np.inf, np.nan])
@pytest.mark.parametrize(
    ("formulation", "workload"),
    [
        ("halves-phases", make((FLOAT16_TERMS + 3, 33))),
        ("halves-fold-w", make((5, 20), kernel=2)),
    ],
    ids=["zeros around rows and in the last block", "folded"],
)
def test_numbers_that_are_not_finite_stay_where_they_belong(
    formulation, workload, number, call, built
):
    device = with_arithmetic()
    x, filters, _ = random_data(workload, seed=0)
    x[0, 1, 1, 4, -1] = number
    point = of_each_order(workload, device, formulation)[0]
    found = call(built(workload, device, point), x, filters)
    expected = reference(workload, x, filters)
    assert np.array_equal(np.isfinite(found), np.isfinite(expected))
    assert np.array_equal(np.isnan(found), np.isnan(expected))


def inner_loop(text, instruction):
    """The lines between two labels or jumps that have the most of an instruction."""
    parts = re.split(r"\n\.LBB\w+:|\n\s+(?:j\w+|b\.\w+|cbn?z|tbn?z)\s.*", text)
    return max(parts, key=lambda lines: len(re.findall(instruction, lines)))


@pytest.mark.parametrize(
    ("device", "instruction"),
    [
        (FP16, r"vfmadd\d+ph\s.*%zmm\d"),
        (replace(FP16, vector_bits=256), r"vfmadd\d+ph\s.*%ymm\d"),
        (BOARD, r"fmla\s+v\d+\.8h"),
        *((catalogue.get(name), r"fmla\s+v\d+\.8h") for name in ("jetson-orin", "neoverse-n1")),
        *((catalogue.get(name), r"fmla\s+v\d+\.8h") for name in ("neoverse-v1", "neoverse-v2")),
        (catalogue.get("x86-64-v4-amx"), r"vfmadd\d+ph\s.*%zmm\d"),
    ],
    ids=lambda each: getattr(each, "name", None),
)
@pytest.mark.parametrize("in_channels", [24, 64, 200])
def test_inner_loop_multiplies_and_adds_halves_and_widens_none(
    in_channels, device, instruction, built
):
    workload = make((in_channels, 64), kernel=2)
    point = of_each_order(workload, device, "halves-phases")[0]
    text = built(workload, device, point).module.mod.inspect_source("asm")
    lines = inner_loop(text, instruction)
    assert re.search(instruction, lines)
    assert not re.search(r"vfmadd\d+ps|fmla\s+v\d+\.4s|vcvtph2ps|fcvtl|vmulph|vaddph|fmul", lines)
    assert not re.search(r"vfmadd\d+ps|fmla\s+v\d+\.4s|vmulph|\bfmul\s+v\d+\.8h", text)


@pytest.mark.parametrize(
    ("in_channels", "kernel", "joined", "chunk", "blocks"),
    [
        (8, 2, (True, True, True), 8, 1),
        (16, 3, (True, True, True), 16, 1),
        (32, 3, (False, True, True), 32, 2),
        (64, 3, (False, False, True), 64, 4),
        (65, 3, (False, False, False), 65, 8),
        (128, 1, (True, True, True), 128, 1),
        (129, 1, (False, False, False), 65, 2),
        (300, 3, (False, False, False), 100, 24),
    ],
)
def test_blocks_have_as_many_terms_as_are_permitted_or_less(
    in_channels, kernel, joined, chunk, blocks
):
    layout = HalfLayout(make((in_channels, 32), kernel=kernel), 32)
    assert (layout.joined, layout.chunk, layout.sum_blocks) == (joined, chunk, blocks)


ALL = {"halves-phases", "halves-fold-dhw", "halves-fold-hw", "halves-fold-w"}


@pytest.mark.parametrize(
    ("device", "workload", "expected"),
    [
        (FP16, make((6, 64)), {"halves-phases"}),
        (FP16, make((6, 17)), {"halves-phases"}),
        (FP16, make((6, 16)), set()),
        (FP16, make((6, 16), kernel=2), ALL - {"halves-phases"}),
        (FP16, make((6, 20), kernel=2), ALL),
        (FP16, make((6, 64), precision=None), set()),
        (FP16, make((6, 64)).recast(data_format="NCDHW"), set()),
        (V4, make((6, 64)), set()),
        (catalogue.get("x86-64-v4-amx"), make((6, 64)), {"halves-phases"}),
        (BOARD, make((6, 8)), {"halves-phases"}),
        (catalogue.get("aarch64"), make((6, 64)), set()),
        (catalogue.get("armv7"), make((6, 64)), set()),
    ],
)
def test_they_are_offered_where_they_are_permitted_and_of_use(device, workload, expected):
    assert {f for f in llvm.formulations(workload, device) if f.startswith(HALVES)} == expected


@pytest.mark.parametrize("device", [V4, catalogue.get("aarch64")], ids=lambda each: each.name)
def test_device_without_the_arithmetic_compiles_what_it_does_without_the_permission(device, built):
    texts = []
    for workload in (make((6, 40)), make((6, 40), precision=None)):
        assert list(llvm.points(workload, device)) == list(
            llvm.points(replace(workload, precision=None), device)
        )
        point = of_each_order(workload, device, "phases")[0]
        text = built(workload, device, point).module.mod.inspect_source("asm")
        texts.append(re.findall(r"^\t[a-z].*", text.replace("f16pf16", "f16"), re.MULTILINE))
    assert texts[0] == texts[1]
