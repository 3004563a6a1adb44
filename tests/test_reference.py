"""Is the reference the operator that TensorFlow defines, and is the data fit to compare on?"""

import dataclasses
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tvm_conv3dt.bfloat16 import bfloat16
from tvm_conv3dt.errors import ArrayError
from tvm_conv3dt.reference import integer_data, random_data, reference, rounded
from tvm_conv3dt.spec import FLOAT16_TERMS, Workload


def make(size, output, kernel, stride, *, dilation=1, cin=2, cout=3, batch=1, **options):
    """A workload from three sizes each, channels last."""
    return Workload.make(
        [batch, *size, cin],
        [*kernel, cout, cin],
        [batch, *output, cout],
        stride,
        dilations=dilation,
        **options,
    )


def by_definition(workload, x, filters):
    """Every pair of input position and tap, one by one: slow, and nothing to get wrong."""
    y = np.zeros(workload.output_shape)
    positions = itertools.product(*map(range, workload.input_spatial))
    for i, t in itertools.product(list(positions), itertools.product(*map(range, workload.kernel))):
        o = tuple(
            s * a + d * b - p
            for s, a, d, b, p in zip(
                workload.strides, i, workload.dilations, t, workload.pad_before, strict=True
            )
        )
        if all(0 <= a < size for a, size in zip(o, workload.output_spatial, strict=True)):
            y[(slice(None), *o)] += x[(slice(None), *i)].astype(float) @ filters[t].T.astype(float)
    return y


@st.composite
def small(draw):
    """Any legal workload that the definition can be run on."""
    padding = draw(st.sampled_from(("SAME", "VALID", "explicit")))
    size, kernel, stride, dilation = (
        draw(st.tuples(*[st.integers(1, most)] * 3)) for most in (3, 3, 4, 4)
    )
    output = [
        (i - 1) * s + 1 + ((k - 1) * d if padding == "VALID" else 0) + draw(st.integers(0, s - 1))
        for i, k, s, d in zip(size, kernel, stride, dilation, strict=True)
    ]
    if padding == "explicit":
        most = [
            (i - 1) * s + (k - 1) * d + max(s, d)
            for i, k, s, d in zip(size, kernel, stride, dilation, strict=True)
        ]
        padding = [draw(st.integers(0, high - 1)) for high in most]
        output = [draw(st.integers(1, high - p)) for high, p in zip(most, padding, strict=True)]
    return make(size, output, kernel, stride, dilation=dilation, padding=padding, batch=2)


# ---- the operator


@settings(max_examples=200, deadline=None)
@given(small())
def test_the_reference_is_the_definition(workload):
    x, filters, _ = integer_data(workload, seed=1)
    np.testing.assert_array_equal(
        reference(workload, x, filters), by_definition(workload, x, filters)
    )


def test_one_axis_by_hand():
    workload = make((3, 1, 1), (6, 1, 1), (3, 1, 1), (2, 1, 1), cin=1, cout=1)
    x = np.array([1, 10, 100]).reshape(workload.input)
    filters = np.array([1, 2, 3]).reshape(workload.filters)
    assert reference(workload, x, filters).ravel().tolist() == [1, 2, 13, 20, 130, 200]


def test_positions_that_no_tap_reaches_are_zero():
    workload = make((3, 1, 1), (9, 1, 1), (1, 1, 1), (3, 1, 1), cin=1, cout=1)
    y = reference(workload, np.ones(workload.input), np.ones(workload.filters))
    assert y.ravel().tolist() == [1, 0, 0, 1, 0, 0, 1, 0, 0]


def test_the_tail_past_the_last_tap_is_zero():
    workload = make((2, 1, 1), (5, 1, 1), (2, 1, 1), (2, 1, 1), cin=1, cout=1, padding="VALID")
    y = reference(workload, np.ones(workload.input), np.ones(workload.filters))
    assert y.ravel().tolist() == [1, 1, 1, 1, 0]


def test_explicit_padding_by_hand():
    arguments = {"cin": 1, "cout": 1, "padding": [1, 0, 0]}
    workload = make((3, 1, 1), (6, 1, 1), (3, 1, 1), (2, 1, 1), **arguments)
    x = np.array([1, 10, 100]).reshape(workload.input)
    filters = np.array([1, 2, 3]).reshape(workload.filters)
    assert reference(workload, x, filters).ravel().tolist() == [2, 13, 20, 130, 200, 300]


@pytest.mark.peers
@settings(max_examples=100, deadline=None)
@given(small())
def test_the_reference_is_pytorchs_where_that_can_say_it(workload):
    torch = pytest.importorskip("torch")
    reached = [(a.input - 1) * a.stride + (a.kernel - 1) * a.dilation + 1 for a in workload.axes]
    extra = [
        axis.output - (reach - 2 * axis.pad)
        for axis, reach in zip(workload.axes, reached, strict=True)
    ]
    limits = [max(axis.stride, axis.dilation) for axis in workload.axes]
    assume(all(0 <= e < limit for e, limit in zip(extra, limits, strict=True)))
    x, filters, _ = (a if a is None else a.astype(np.float64) for a in integer_data(workload, 0))
    tensors = (
        torch.from_numpy(np.moveaxis(x, -1, 1)),
        torch.from_numpy(filters.transpose(4, 3, 0, 1, 2)),
    )
    sizes = workload.strides, workload.pad_before, extra, 1, workload.dilations
    y = torch.nn.functional.conv_transpose3d(*tensors, None, *sizes)
    found = np.moveaxis(reference(workload, x, filters), -1, 1)
    np.testing.assert_array_equal(found, y.numpy())


def test_channels_first_is_the_same_operator():
    last = make((3, 4, 2), (6, 7, 4), (3, 2, 4), 2, batch=2)
    first = Workload.make([2, 2, 3, 4, 2], last.filters, [2, 3, 6, 7, 4], 2, data_format="NCDHW")
    x, filters, _ = integer_data(last, seed=0)
    expected = np.moveaxis(reference(last, x, filters), -1, 1)
    np.testing.assert_array_equal(reference(first, np.moveaxis(x, -1, 1), filters), expected)


def test_a_bias_is_added_everywhere_holes_included():
    workload = make((2, 1, 1), (6, 1, 1), (1, 1, 1), (3, 1, 1), cin=1, cout=2, bias=True)
    zeros = np.zeros(workload.input), np.zeros(workload.filters)
    assert (reference(workload, *zeros, [3, -4]) == [3, -4]).all()


@pytest.mark.parametrize(
    ("activation", "alpha", "expected"),
    [
        (None, None, [-2.0, 0.0, 3.0]),
        ("relu", None, [0.0, 0.0, 3.0]),
        ("leaky_relu", 0.25, [-0.5, 0.0, 3.0]),
        ("elu", 2.0, [2 * np.expm1(-2), 0.0, 3.0]),
        ("sigmoid", None, [1 / (1 + np.e**2), 0.5, 1 / (1 + np.e**-3)]),
        ("tanh", None, [np.tanh(-2), 0.0, np.tanh(3)]),
    ],
)
def test_an_activation_follows_the_bias(activation, alpha, expected):
    epilogue = {"bias": True, "activation": activation, "alpha": alpha}
    workload = make((3, 1, 1), (3, 1, 1), (1, 1, 1), 1, cin=1, cout=1, **epilogue)
    x = np.array([-3, -1, 2]).reshape(workload.input)
    y = reference(workload, x, np.ones(workload.filters), [1])
    np.testing.assert_allclose(y.ravel(), expected, rtol=1e-14)


def test_a_leaky_relu_of_exact_sums_is_exact_in_float32():
    workload = make((3, 3, 3), (6, 6, 6), (3, 3, 3), 2, activation="leaky_relu", alpha=0.1)
    x, filters, _ = integer_data(workload, seed=0)
    plain = dataclasses.replace(workload, activation=None, alpha=None)
    sums = reference(plain, x, filters).astype(np.float32)
    expected = np.where(sums > 0, sums, np.float32(0.1) * sums)
    np.testing.assert_array_equal(reference(workload, x, filters).astype(np.float32), expected)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "elu", "sigmoid", "tanh"])
def test_nan_and_infinity_reach_what_their_taps_reach_and_nothing_else(activation):
    workload = make(
        (4, 1, 1), (8, 1, 1), (2, 1, 1), (2, 1, 1), cin=1, cout=1, activation=activation
    )
    x = np.array([1.0, np.nan, np.inf, -np.inf]).reshape(workload.input)
    y = reference(workload, x, np.ones(workload.filters)).ravel()
    assert np.isnan(y).tolist() == [False, False, True, True, False, False, False, False]
    assert y[4] == {"sigmoid": 1.0, "tanh": 1.0}.get(activation, np.inf)


def test_arrays_of_any_stride_and_dtype_are_read():
    workload = make((3, 4, 5), (6, 8, 10), (2, 2, 2), 2)
    x, filters, _ = integer_data(workload, seed=0)
    strided = np.repeat(x, 2, axis=3)[:, :, :, ::2].astype(">f8")
    np.testing.assert_array_equal(
        reference(workload, strided, filters.astype(np.int64)), reference(workload, x, filters)
    )


# ---- refusals


@pytest.mark.parametrize("name", ["input", "filters"])
def test_an_array_of_another_shape_is_refused(name):
    workload = make((3, 3, 3), (6, 6, 6), (2, 2, 2), 2)
    arrays = {"input": np.zeros(workload.input), "filters": np.zeros(workload.filters)}
    arrays[name] = arrays[name][1:]
    with pytest.raises(ArrayError, match=f"failed to compute reference with {name} of shape"):
        reference(workload, arrays["input"], arrays["filters"])


@pytest.mark.parametrize("has_bias", [False, True])
def test_a_bias_must_be_given_exactly_where_there_is_one(has_bias):
    workload = make((1, 1, 1), (1, 1, 1), (1, 1, 1), 1, bias=has_bias)
    bias = None if has_bias else np.zeros(3)
    with pytest.raises(ArrayError, match="bias: the workload has"):
        reference(workload, np.zeros(workload.input), np.zeros(workload.filters), bias)


# ---- data


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("data", [integer_data, random_data])
def test_data_has_shapes_and_dtype_of_the_workload(data, dtype):
    workload = make((2, 3, 4), (4, 6, 8), (2, 2, 2), 2, dtype=dtype, bias=True)
    arrays = data(workload, seed=0)
    assert [a.shape for a in arrays] == [workload.input, workload.filters, (3,)]
    assert [a.dtype for a in arrays] == [np.dtype(dtype)] * 3


@pytest.mark.parametrize("data", [integer_data, random_data])
def test_there_is_no_bias_where_the_workload_has_none(data):
    assert data(make((1, 1, 1), (1, 1, 1), (1, 1, 1), 1), seed=0)[2] is None


@pytest.mark.parametrize("data", [integer_data, random_data])
def test_a_seed_gives_the_same_data_and_another_gives_other(data):
    workload = make((4, 4, 4), (8, 8, 8), (2, 2, 2), 2)
    assert (data(workload, seed=5)[0] == data(workload, seed=5)[0]).all()
    assert not (data(workload, seed=5)[0] == data(workload, seed=6)[0]).all()


@pytest.mark.parametrize(
    ("size", "kernel", "cin"),
    [((2, 2, 2), (2, 2, 2), 8), ((4, 4, 4), (4, 4, 4), 512), ((8, 16, 16), (8, 16, 16), 2048)],
    ids=["few terms", "many terms", "most of all terms"],
)
def test_integer_sums_stay_below_two_to_the_23(size, kernel, cin):
    workload = make(size, size, kernel, 1, cin=cin, cout=1, bias=True)
    x, filters, bias = integer_data(workload, seed=3)
    assert x.all()
    # Were all of an output's products of one sign, and the largest input under every tap:
    worst = np.abs(x).max() * np.abs(filters).sum(dtype=np.float64) + np.abs(bias).max()
    assert worst < 2**23


@pytest.mark.parametrize("cin", [1, 64, 2048])
def test_integers_and_their_halves_are_numbers_of_bfloat16(cin):
    # Where factors may be rounded to it, results are exact all the same.
    pytest.importorskip("ml_dtypes")
    for array in integer_data(make((4, 4, 4), (8, 8, 8), (4, 4, 4), 2, cin=cin), seed=0)[:2]:
        assert np.array_equal((array / 2).astype(bfloat16()).astype(np.float32), array / 2)


@pytest.mark.parametrize("cin", [1, 8, 64, 2048])
def test_integers_are_exact_in_sums_of_float16(cin):
    workload = make((4, 4, 4), (8, 8, 8), (4, 4, 4), 2, cin=cin)
    halves = workload.recast(dtype="float16", precision="float16")
    x, filters = (each.astype(int) for each in integer_data(halves, seed=0)[:2])
    terms = min(FLOAT16_TERMS, cin * 64)
    assert np.abs(x).max() * np.abs(filters).max() * terms <= 2**11
    assert x.all()


def test_integers_vary_enough_to_tell_elements_apart():
    x, filters, _ = integer_data(make((8, 8, 8), (16, 16, 16), (3, 3, 3), 2, cin=64), seed=0)
    assert len(np.unique(x)) == 16
    assert len(np.unique(filters)) == 16


def test_random_results_are_of_the_order_of_one():
    workload = make((6, 6, 6), (12, 12, 12), (2, 2, 2), 2, cin=256)
    x, filters, _ = random_data(workload, seed=0)
    assert 0.5 < reference(workload, x, filters).std() < 2


# ---- TensorFlow


def cases(dilated=False):
    """Endless random shapes that TensorFlow's CPU kernels accept: dilation and stride never meet."""
    rng = np.random.default_rng(0)
    while True:
        padding = str(rng.choice(["SAME", "VALID"]))
        size, kernel = rng.integers(1, 7, 3), rng.integers(1, 6, 3)
        stride, dilation = rng.integers(1, 5, 3), np.ones(3, int)
        if dilated:
            stride, dilation = np.ones(3, int), rng.integers(1, 4, 3)
        least = (size - 1) * stride + 1 + (padding == "VALID") * (kernel - 1) * dilation
        yield make(
            size.tolist(),
            (least + rng.integers(0, stride)).tolist(),
            kernel.tolist(),
            stride.tolist(),
            dilation=dilation.tolist(),
            cin=int(rng.integers(1, 9)),
            cout=int(rng.integers(1, 9)),
            batch=int(rng.integers(1, 3)),
            padding=padding,
        )


def tensorflow_says(tf, workload, x, filters):
    def five(values):
        return [1, *values, 1] if workload.data_format == "NDHWC" else [1, 1, *values]

    return tf.nn.conv3d_transpose(
        x,
        filters,
        workload.output_shape,
        five(workload.strides),
        workload.padding,
        workload.data_format,
        five(workload.dilations),
    ).numpy()


@pytest.mark.oracle
def test_tensorflow_gives_the_same_on_integers():
    tf = pytest.importorskip("tensorflow")
    for workload in itertools.islice(cases(), 200):
        x, filters, _ = integer_data(workload, seed=0)
        np.testing.assert_array_equal(
            tensorflow_says(tf, workload, x, filters),
            reference(workload, x, filters).astype(np.float32),
            err_msg=workload.id,
        )


@pytest.mark.oracle
def test_tensorflow_gives_the_same_in_float64():
    tf = pytest.importorskip("tensorflow")
    for workload in itertools.islice(cases(), 60):
        double = dataclasses.replace(workload, dtype="float64")
        x, filters, _ = random_data(double, seed=0)
        np.testing.assert_allclose(
            tensorflow_says(tf, double, x, filters),
            reference(double, x, filters),
            rtol=1e-12,
            atol=1e-13,
            err_msg=double.id,
        )


def channels_first(workload):
    """The same workload in the other format."""
    batch, *spatial, channels = workload.input
    _, *output, out_channels = workload.output_shape
    return dataclasses.replace(
        workload,
        input=(batch, channels, *spatial),
        output_shape=(batch, out_channels, *output),
        data_format="NCDHW",
    )


def compare_what_only_onednn_runs():
    """Run by the test below in a process of its own."""
    import tensorflow as tf

    dilated = itertools.islice(cases(dilated=True), 30)
    swapped = map(channels_first, itertools.islice(cases(), 30))
    for workload in itertools.chain(dilated, swapped):
        x, filters, _ = integer_data(workload, seed=0)
        try:
            theirs = tensorflow_says(tf, workload, x, filters)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            print("refused", workload.id)
            continue
        same = np.array_equal(theirs, reference(workload, x, filters).astype(np.float32))
        print("same" if same else "different", workload.id)


@pytest.mark.oracle
def test_tensorflow_gives_the_same_for_dilation_and_channels_first():
    pytest.importorskip("tensorflow")
    # Which kernels TensorFlow has is decided at its import, and by default it depends on the CPU.
    code = f"import runpy; runpy.run_path({__file__!r})['compare_what_only_onednn_runs']()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    verdicts = [line.split()[0] for line in done.stdout.splitlines()]
    assert "different" not in verdicts, done.stdout
    if verdicts.count("same") == 0:
        pytest.skip("TensorFlow has no kernels for these on this CPU")


@pytest.mark.oracle
def test_tensorflow_refuses_the_same_output_sizes():
    tf = pytest.importorskip("tensorflow")
    x, filters = np.ones((1, 3, 1, 1, 1), np.float32), np.ones((3, 1, 1, 1, 1), np.float32)
    for padding, output in itertools.product(("SAME", "VALID"), range(1, 12)):
        shape = [1, output, 1, 1, 1]
        try:
            tf.nn.conv3d_transpose(x, filters, shape, [1, 2, 1, 1, 1], padding)
            theirs = True
        except (tf.errors.InvalidArgumentError, tf.errors.AbortedError):
            # oneDNN's kernels, where this CPU has them, refuse by an error of their own.
            theirs = False
        try:
            Workload.make(x.shape, filters.shape, shape, [2, 1, 1], padding)
            ours = True
        except ValueError:
            ours = False
        assert ours == theirs, (padding, output)


def test_half_types_are_rounded_in_the_type_of_sums_first():
    workload = Workload.make([1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], 1, dtype="float16")
    exact = np.array([np.float64(np.float32(0.3)) * -3415])
    found = rounded(workload, exact)
    assert found == exact.astype(np.float32).astype(np.float16)
    assert found != exact.astype(np.float16)
