"""Verification finds what is wrong, and only that."""

from dataclasses import replace

import numpy as np
import pytest

from tvm_conv3dt.bfloat16 import bfloat16
from tvm_conv3dt.errors import VerificationError
from tvm_conv3dt.measure import verify as verify_module
from tvm_conv3dt.measure.verify import verify
from tvm_conv3dt.reference import reference
from tvm_conv3dt.spec import DATA_FORMATS, Workload


def make(**changes):
    values = {
        "input": [1, 3, 4, 3, 8],
        "filters": [3, 3, 3, 4, 8],
        "output_shape": [1, 6, 7, 6, 4],
        "strides": 2,
        **changes,
    }
    return Workload.make(**values)


PLAIN = make()
HOLES = make(
    input=[1, 3, 3, 3, 8], filters=[1, 1, 1, 4, 8], output_shape=[1, 9, 9, 9, 4], strides=3
)
WORKLOADS = {
    "plain": PLAIN,
    "holes": HOLES,
    "bias": make(bias=True),
    "relu": make(bias=True, activation="relu"),
    "leaky_relu": make(activation="leaky_relu", alpha=0.1),
    "elu": make(activation="elu"),
    "sigmoid": make(activation="sigmoid"),
    "tanh": make(bias=True, activation="tanh"),
    "channels first": make(
        input=[2, 8, 3, 4, 3], output_shape=[2, 4, 6, 7, 6], data_format="NCDHW"
    ),
    "float64": make(dtype="float64"),
    "float16": make(dtype="float16"),
    "precision": make(bias=True, activation="leaky_relu", precision="bfloat16"),
    "float16 sums": make(dtype="float16", bias=True, precision="float16"),
    "precision, channels first": make(
        input=[2, 8, 3, 4, 3],
        output_shape=[2, 4, 6, 7, 6],
        data_format="NCDHW",
        bias=True,
        precision="bfloat16",
    ),
}
PERMITTED = [name for name in WORKLOADS if "precision" in name]


def right(workload):
    """A kernel that is as good as its dtype allows."""

    def run(x, filters, bias, out):
        out[...] = reference(workload, x, filters, bias)

    return run


def spoilt(workload, spoil):
    def run(x, filters, bias, out):
        right(workload)(x, filters, bias, out)
        spoil(out)

    return run


@pytest.mark.parametrize("name", WORKLOADS)
def test_right_kernel_passes(name):
    workload = WORKLOADS[name]
    found = verify(workload, right(workload), seeds=(0, 1))
    assert [(check.data, check.seed, check.status) for check in found.checks] == [
        ("integers", 0, "PASSED"),
        ("random", 0, "PASSED"),
        ("integers", 1, "PASSED"),
        ("random", 1, "PASSED"),
    ]
    assert found.passed
    found.raise_if_failed()


def test_sums_in_float32_pass():
    # The most ordinary kernel: one float32 sum after the other, in an order of its own.
    def run(x, filters, bias, out):
        out[...] = 0
        for tap in reversed(list(np.ndindex(PLAIN.kernel))):
            part = np.zeros((1, 7, 9, 7, 4), np.float32)
            part[:, tap[0] : tap[0] + 5 : 2, tap[1] : tap[1] + 7 : 2, tap[2] : tap[2] + 5 : 2] = (
                np.einsum("ndhwi,oi->ndhwo", x, filters[tap])
            )
            before = PLAIN.pad_before
            out += part[:, before[0] :, before[1] :, before[2] :][:, :6, :7, :6]

    found = verify(PLAIN, run)
    assert found.passed, found
    assert 0 < found.checks[1].worst < 1


def zero(out):
    out[0, 1, 2, 3, 0] = 0


def off_by_one(out):
    out[0, 5, 6, 5, 3] += 1


def swapped(out):
    out[...] = out[:, ::-1].copy()


def unwritten(out):
    out[0, 0] = np.nan


def infinite(out):
    out[0, 0, 0, 0, 0] = np.inf


@pytest.mark.parametrize("spoil", [zero, off_by_one, swapped, unwritten, infinite])
def test_wrong_kernel_fails_on_both_kinds_of_data(spoil):
    found = verify(PLAIN, spoilt(PLAIN, spoil))
    assert [check.status for check in found.checks] == ["FAILED", "FAILED"]
    assert found.status == "FAILED"
    assert not found.passed
    with pytest.raises(
        VerificationError, match=r"failed to verify kernel with workload n1_.* wrong"
    ):
        found.raise_if_failed()


def test_error_names_the_first_wrong_place_and_both_values():
    found = verify(PLAIN, spoilt(PLAIN, off_by_one))
    assert "1 of 1008 outputs are wrong, first at [0, 5, 6, 5, 3]" in found.checks[0].detail


def test_kernel_that_writes_nothing_fails():
    found = verify(PLAIN, lambda x, filters, bias, out: None)
    assert "1008 are NaN, which unwritten ones would be" in found.checks[0].detail


def test_holes_left_unwritten_fail():
    def run(x, filters, bias, out):
        right(HOLES)(x, filters, bias, out)
        out[:, 1::3] = np.nan

    assert verify(HOLES, run).status == "FAILED"


@pytest.mark.parametrize("precision", [None, "float32"])
def test_lower_precision_fails_on_random_data_only(precision):
    def run(x, filters, bias, out):
        half = reference(PLAIN, x.astype(np.float16), filters.astype(np.float16))
        out[...] = half

    found = verify(replace(PLAIN, precision=precision), run)
    assert [check.status for check in found.checks] == ["PASSED", "FAILED"]
    assert found.checks[1].worst > 1


def test_kernel_that_overwrites_its_input_is_judged_by_the_original():
    def run(x, filters, bias, out):
        right(PLAIN)(x, filters, bias, out)
        x[...] = 0
        filters[...] = 0

    assert verify(PLAIN, run, seeds=(0, 0)).passed


def test_data_whose_result_is_mostly_zero_is_mistrusted(monkeypatch):
    def sparse(workload, seed):
        x = np.zeros(workload.input, np.float32)
        x[0, 0, 0, 0, 0] = 1
        return x, np.ones(workload.filters, np.float32), None

    monkeypatch.setattr(verify_module, "integer_data", sparse)
    found = verify(PLAIN, right(PLAIN))
    assert [check.status for check in found.checks] == ["MISTRUSTED", "PASSED"]
    assert found.status == "MISTRUSTED"
    with pytest.raises(VerificationError, match="the right result is mostly zeros"):
        found.raise_if_failed()


def test_checking_nothing_is_no_pass():
    found = verify(PLAIN, right(PLAIN), seeds=())
    assert not found.passed
    with pytest.raises(VerificationError, match="no data was checked"):
        found.raise_if_failed()


def test_json_has_no_infinities():
    checks = verify(PLAIN, spoilt(PLAIN, off_by_one)).to_dict()["checks"]
    assert checks[0]["worst"] is None
    assert checks[1]["worst"] > 1


def test_result_that_no_tap_reaches_is_checked_for_zeros():
    unreached = Workload.make([1, 1, 1, 1, 1], [1, 1, 2, 1, 1], [1] * 5, 1, dilations=[1, 1, 3])
    assert verify(unreached, right(unreached)).passed

    def wrong(x, filters, bias, out):
        out[...] = 1

    assert verify(unreached, wrong).status == "FAILED"


def test_results_below_the_normal_numbers_are_rounded_as_those_are():
    """One of them is a product of 3.4e-5, which float16 has in steps of 6e-8."""
    workload = Workload.from_id("n1_x7x1x5x1_k2x3x5_y15x10x23x17_s2x4x4_d1x3x1_valid_f16_ndhwc")

    def run(x, filters, bias, out):
        out[...] = reference(workload, x, filters)

    verify(workload, run).raise_if_failed()


def rounded(array):
    """What is left of float32 numbers that were rounded to bfloat16."""
    return array.astype(bfloat16()).astype(np.float32)


def with_rounded_factors(workload):
    """A kernel that multiplies factors of bfloat16, and keeps all else in float32."""

    def run(x, filters, bias, out):
        out[...] = reference(workload, rounded(x), rounded(filters), bias)

    return run


@pytest.mark.parametrize("name", PERMITTED)
def test_rounded_factors_pass_where_they_are_permitted(name):
    pytest.importorskip("ml_dtypes")
    found = verify(WORKLOADS[name], with_rounded_factors(WORKLOADS[name]), seeds=(0, 1))
    assert found.passed, found
    assert [check.worst == 0 for check in found.checks] == [True, False, True, False]


def test_rounded_factors_fail_where_they_are_not_permitted():
    pytest.importorskip("ml_dtypes")
    found = verify(PLAIN, with_rounded_factors(PLAIN))
    assert [check.status for check in found.checks] == ["PASSED", "FAILED"]


@pytest.mark.parametrize("data_format", DATA_FORMATS)
def test_bias_must_not_be_rounded_where_factors_may_be(data_format):
    pytest.importorskip("ml_dtypes")
    # In holes there is nothing but the bias.
    workload = replace(HOLES, bias=True).recast(data_format, precision="bfloat16")

    def run(x, filters, bias, out):
        out[...] = reference(workload, x, filters, rounded(bias))

    found = verify(workload, run)
    assert [check.status for check in found.checks] == ["PASSED", "FAILED"]


def test_output_must_not_be_rounded_where_factors_may_be():
    pytest.importorskip("ml_dtypes")
    # A single product: rounding the sum too is a third rounding, where two are permitted.
    workload = make(
        input=[1, 4, 4, 4, 1],
        filters=[1, 1, 1, 64, 1],
        output_shape=[1, 4, 4, 4, 64],
        strides=1,
        precision="bfloat16",
    )

    def run(x, filters, bias, out):
        with_rounded_factors(workload)(x, filters, bias, out)
        out[...] = rounded(out)

    assert verify(workload, with_rounded_factors(workload)).passed
    assert [check.status for check in verify(workload, run).checks] == ["PASSED", "FAILED"]


def test_rounding_two_factors_costs_up_to_what_is_allowed():
    pytest.importorskip("ml_dtypes")
    # The worst lies between 1 and the next number of bfloat16; half way it goes to the even one.
    half_way = np.float32(1 + 2.0**-8)
    assert rounded(np.array([half_way, np.nextafter(half_way, 2, dtype=np.float32)])).tolist() == [
        1.0,
        1 + 2.0**-7,
    ]
    mantissas = np.arange(1 << 23, 1 << 24, 3, dtype=np.int32).astype(np.float32)
    most = (np.abs(rounded(mantissas).astype(np.float64) - mantissas) / mantissas).max()
    assert 2.0**-9 < most <= 1 / 257
    assert 0.99 * 2.0**-7 < (1 + most) ** 2 - 1 < 2.0**-7


def with_float16_sums(workload, lost=0.0):
    """A kernel that adds one product after the other in float16, of an output's 64 at most; `lost` is a share of all terms."""

    def run(x, filters, bias, out):
        total = np.zeros(out.shape, np.float16)
        for tap in np.ndindex(workload.kernel):
            for channel in range(workload.in_channels):
                one = np.zeros_like(filters)
                one[(*tap, slice(None), channel)] = filters[(*tap, slice(None), channel)]
                total += reference(workload, x, one).astype(np.float16)
        out[...] = total - lost * reference(workload, abs(x), abs(filters))

    return run


def test_sums_in_float16_pass_where_they_are_permitted():
    workload = make(dtype="float16", precision="float16")
    run = with_float16_sums(workload)
    assert verify(workload, run, seeds=(0, 1)).passed
    found = verify(replace(workload, precision=None), with_float16_sums(workload))
    assert found.checks[1].status == "FAILED"


def test_more_than_64_roundings_to_float16_fail_where_sums_of_64_products_may_be():
    workload = make(dtype="float16", precision="float16")
    found = verify(workload, with_float16_sums(workload, lost=0.04))
    assert [check.status for check in found.checks] == ["FAILED", "FAILED"]


@pytest.mark.parametrize("spoil", [zero, off_by_one, swapped, unwritten, infinite])
@pytest.mark.parametrize(
    "permitted",
    [{"precision": "bfloat16"}, {"dtype": "float16", "precision": "float16"}],
    ids=["factors", "sums"],
)
def test_wrong_kernel_fails_where_factors_or_sums_may_be_rounded(permitted, spoil):
    workload = make(**permitted)
    found = verify(workload, spoilt(workload, spoil))
    assert [check.status for check in found.checks] == ["FAILED", "FAILED"]


@pytest.mark.parametrize("alpha", [0.2, 0.3])
def test_slope_may_round_in_the_type_of_the_sums_first(alpha):
    # As kernels do: once in float32, once when the result is stored.
    layer = make(
        input=[1, 2, 4, 8, 512],
        filters=[3, 3, 3, 32, 512],
        output_shape=[1, 2, 4, 8, 32],
        strides=1,
        dtype="float16",
        activation="leaky_relu",
        alpha=alpha,
    )
    linear = replace(layer, activation=None, alpha=None)

    def run(x, filters, bias, out):
        sums = reference(linear, x, filters, bias).astype(np.float32)
        out[...] = np.where(sums > 0, sums, np.float32(alpha) * sums)

    verification = verify(layer, run)
    assert verification.passed, verification.checks


def test_infinity_of_what_a_half_type_does_not_hold_is_right():
    layer = make(dtype="float16", activation="leaky_relu", alpha=1e6)
    with np.errstate(over="ignore"):
        assert verify(layer, right(layer)).passed
