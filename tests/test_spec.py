"""Is a workload what TensorFlow's rules say, and nothing else?"""

import dataclasses
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_conv3dt.errors import ArgumentTypeError, UnsupportedError, WorkloadError
from tvm_conv3dt.phases import Axis
from tvm_conv3dt.spec import ACTIVATIONS, DATA_FORMATS, DTYPES, PADDINGS, PRECISIONS, Workload

UP3 = {
    "input": [1, 16, 16, 16, 256],
    "filters": [2, 2, 2, 128, 256],
    "output_shape": [1, 32, 32, 32, 128],
    "strides": [2, 2, 2],
    "padding": "VALID",
}
UP3_ID = "n1_x16x16x16x256_k2x2x2_y32x32x32x128_s2x2x2_d1x1x1_valid_f32_ndhwc"


def up3(**changes):
    return Workload.make(**{**UP3, **changes})


@st.composite
def legal(draw):
    """Any legal workload with small sizes."""
    small = st.integers(1, 9)
    padding = draw(st.sampled_from((*PADDINGS, "explicit")))
    data_format = draw(st.sampled_from(DATA_FORMATS))
    size, kernel, stride, dilation = (draw(st.tuples(small, small, small)) for _ in range(4))
    if padding == "explicit":
        most = [
            (i - 1) * s + (k - 1) * d + max(s, d)
            for i, k, s, d in zip(size, kernel, stride, dilation, strict=True)
        ]
        padding = [draw(st.integers(0, high - 1)) for high in most]
        output = [draw(st.integers(1, high - p)) for high, p in zip(most, padding, strict=True)]
    else:
        least = [
            (i - 1) * s + 1 + ((k - 1) * d if padding == "VALID" else 0)
            for i, k, s, d in zip(size, kernel, stride, dilation, strict=True)
        ]
        output = [low + draw(st.integers(0, s - 1)) for low, s in zip(least, stride, strict=True)]
    batch, cin, cout = draw(small), draw(small), draw(small)
    activation = draw(st.sampled_from((None, *ACTIVATIONS)))
    alpha = None
    if activation in ("leaky_relu", "elu"):
        alpha = draw(st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32))

    def shape(spatial, channels):
        last = data_format == "NDHWC"
        return [batch, *spatial, channels] if last else [batch, channels, *spatial]

    dtype = draw(st.sampled_from(tuple(DTYPES)))
    return Workload.make(
        shape(size, cin),
        [*kernel, cout, cin],
        shape(output, cout),
        stride,
        padding,
        data_format,
        dilation,
        dtype,
        draw(st.booleans()),
        activation,
        alpha,
        draw(st.sampled_from((None, *(each for each, of in PRECISIONS.items() if of == dtype)))),
    )


# ---- the normal form


def test_make_has_tensorflows_defaults():
    workload = Workload.make([1, 4, 4, 4, 2], [2, 2, 2, 3, 2], [1, 8, 8, 8, 3], 2)
    assert workload == Workload(
        input=(1, 4, 4, 4, 2),
        filters=(2, 2, 2, 3, 2),
        output_shape=(1, 8, 8, 8, 3),
        strides=(2, 2, 2),
        padding="SAME",
        data_format="NDHWC",
        dilations=(1, 1, 1),
        dtype="float32",
        bias=False,
        activation=None,
        alpha=None,
        precision=None,
    )


@pytest.mark.parametrize(
    "strides",
    [
        2,
        np.int64(2),
        np.array(2),
        [2],
        (2, 2, 2),
        [1, 2, 2, 2, 1],
        np.array([2, 2, 2]),
        range(2, 3),
    ],
    ids=repr,
)
def test_strides_may_be_written_in_any_of_tensorflows_ways(strides):
    assert up3(strides=strides).strides == (2, 2, 2)


@pytest.mark.parametrize(
    ("data_format", "strides"), [("NDHWC", [1, 2, 3, 4, 1]), ("NCDHW", [1, 1, 2, 3, 4])]
)
def test_five_strides_follow_the_data_format(data_format, strides):
    shapes = [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]
    assert Workload.make(*shapes, strides, data_format=data_format).strides == (2, 3, 4)


@pytest.mark.parametrize("field", ["strides", "dilations"])
def test_none_means_ones(field):
    arguments = {"strides": 1, "dilations": 1, field: None}
    workload = Workload.make([1] * 5, [1] * 5, [1] * 5, **arguments)
    assert getattr(workload, field) == (1, 1, 1)


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_shapes_may_be_arrays_and_are_held_as_plain_ints(kind):
    workload = up3(output_shape=np.array(UP3["output_shape"], kind))
    assert workload == up3()
    assert all(type(size) is int for size in workload.output_shape)


@pytest.mark.parametrize("dtype", ["float16", np.float16, np.dtype("float16")])
def test_a_dtype_may_be_named_or_given(dtype):
    assert up3(dtype=dtype).dtype == "float16"


@pytest.mark.parametrize(
    ("activation", "given", "held"),
    [("leaky_relu", None, 0.2), ("elu", None, 1.0), ("elu", 2, 2.0), ("relu", None, None)],
)
def test_alpha_has_a_default_where_it_has_a_meaning(activation, given, held):
    assert up3(activation=activation, alpha=given).alpha == held


def test_a_workload_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        up3().batch = 2


def test_changing_a_copy_checks_it():
    with pytest.raises(WorkloadError, match="channels"):
        dataclasses.replace(up3(), filters=(2, 2, 2, 128, 255))


# ---- bad arguments, the ones that crashed other implementations among them


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("output_shape", [32]),
        ("output_shape", []),
        ("output_shape", np.zeros(0, np.int32)),
        ("output_shape", np.zeros(10**8, np.int8)),
        ("output_shape", np.ones((5, 1), np.int32)),
        ("output_shape", [1, 32, 32, 32, -128]),
        ("output_shape", [1, 0, 32, 32, 128]),
        ("output_shape", [1, 2**31, 32, 32, 128]),
        ("output_shape", [1, 2**63 - 1, 32, 32, 128]),
        ("output_shape", [1, 10**6000, 32, 32, 128]),
        ("output_shape", [1, -(10**6000), 32, 32, 128]),
        ("output_shape", [2, 32, 32, 32, 128]),
        ("output_shape", [1, 32, 32, 32, 127]),
        ("strides", 2**62),
        ("strides", [2, 2, 2**62]),
        ("strides", 0),
        ("strides", -2),
        ("strides", []),
        ("strides", [2, 2]),
        ("strides", [2, 2, 2, 2]),
        ("strides", [2] * 6),
        ("strides", [2, 2, 2, 2, 1]),
        ("strides", [1, 2, 2, 2, 2]),
        ("dilations", 0),
        ("dilations", 2**62),
        ("filters", [0, 2, 2, 128, 256]),
        ("filters", [2, 2, 2, 128, 0]),
        ("filters", [1, 46341, 46341, 1, 0]),
        ("filters", [2, 2, 128, 256]),
        ("input", [0, 16, 16, 16, 256]),
        ("input", [16, 16, 16, 256]),
        ("input", [1, 16, 16, 16, 255]),
        ("input", [1, 256, 16, 16, 16]),
        ("padding", "same"),
        ("padding", "EXPLICIT"),
        ("padding", [[0, 0]] * 5),
        ("padding", [0, 0]),
        ("padding", []),
        ("padding", [0, 0, -1]),
        ("padding", [0, 2**31, 0]),
        ("data_format", "NHWC"),
        ("activation", "gelu"),
        ("alpha", 0.1),
    ],
    # No address: every process must give a test the same name.
    ids=lambda value: (
        str(value).split(" object at")[0][:40] if not isinstance(value, list | int) else None
    ),
)
def test_a_bad_value_is_refused_under_its_field(field, value):
    with pytest.raises(
        WorkloadError, match=f"^failed to make workload with .*{field}=.*: "
    ) as caught:
        up3(**{field: value})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("output_shape", [1, 32, 32, True, 128]),
        ("output_shape", np.ones(5, bool)),
        ("output_shape", [1, 32, 32, np.True_, 128]),
        ("output_shape", [1.0, 32, 32, 32, 128]),
        ("output_shape", np.ones(5)),
        ("output_shape", [1, None, 32, 32, 128]),
        ("output_shape", None),
        ("output_shape", 32),
        ("output_shape", "12345"),
        ("output_shape", iter([1, 32, 32, 32, 128])),
        ("output_shape", dict.fromkeys(range(5))),
        ("strides", True),
        ("strides", 2.0),
        ("strides", "2"),
        ("strides", np.array(2.0)),
        ("padding", None),
        ("padding", 1),
        ("padding", [[0, 0]] * 3),
        ("padding", [0, True, 0]),
        ("padding", [0.0, 0, 0]),
        ("padding", {0, 1, 2}),
        ("dtype", "int32"),
        ("dtype", None),
        ("dtype", complex),
        ("bias", 1),
        ("bias", np.zeros(128)),
        ("activation", len),
    ],
    # No address: every process must give a test the same name.
    ids=lambda value: (
        str(value).split(" object at")[0][:40] if not isinstance(value, list | int) else None
    ),
)
def test_a_value_of_the_wrong_type_is_refused_under_its_field(field, value):
    with pytest.raises(ArgumentTypeError, match=f"^failed to make workload with {field}=.*: "):
        up3(**{field: value})


def test_filters_with_their_channels_exchanged_are_refused():
    with pytest.raises(
        WorkloadError, match="are 128 and must be 256, the out_channels, entry 3 of"
    ):
        up3(filters=[2, 2, 2, 256, 128])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_an_alpha_that_sums_cannot_be_multiplied_with_is_refused(dtype):
    with pytest.raises(WorkloadError, match=r"alpha=-1e\+39: float32 must hold it"):
        up3(activation="elu", alpha=-1e39, dtype=dtype)
    assert up3(activation="elu", alpha=-1e39, dtype="float64").alpha == -1e39


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), 10**400])
def test_an_alpha_that_is_not_finite_is_refused(alpha):
    with pytest.raises(WorkloadError, match=r"alpha=.*finite"):
        up3(activation="elu", alpha=alpha)


@pytest.mark.parametrize("alpha", [True, "0.1", 1j])
def test_an_alpha_that_is_no_real_number_is_refused(alpha):
    with pytest.raises(ArgumentTypeError, match="alpha="):
        up3(activation="elu", alpha=alpha)


def test_more_than_two_to_the_31_elements_are_legal():
    workload = Workload.make([1, 2048, 2048, 2048, 1], [1] * 5, [1, 2048, 2048, 2048, 1], 1)
    assert workload.flops == 2 * 2**33


# ---- what follows from the fields


def test_sizes_are_named_the_same_in_both_formats():
    channels_first = Workload.make(
        [2, 5, 3, 4, 6], [2, 2, 2, 7, 5], [2, 7, 6, 8, 12], 2, data_format="NCDHW"
    )
    assert channels_first.batch == 2
    assert channels_first.in_channels == 5
    assert channels_first.out_channels == 7
    assert channels_first.input_spatial == (3, 4, 6)
    assert channels_first.output_spatial == (6, 8, 12)
    assert channels_first.kernel == (2, 2, 2)


def test_axes_carry_one_axis_each():
    workload = Workload.make(
        [1, 4, 5, 6, 1], [3, 2, 1, 1, 1], [1, 8, 5, 6, 1], [2, 1, 1], dilations=[1, 3, 1]
    )
    assert workload.axes == (Axis(4, 8, 3, 2, 1, 0), Axis(5, 5, 2, 1, 3, 1), Axis(6, 6, 1, 1, 1, 0))


def test_flops_and_bytes_of_a_real_layer():
    assert up3().flops == 2_147_483_648
    assert up3().bytes == 22_020_096
    assert up3(bias=True).bytes == 22_020_096 + 128 * 4
    assert up3(dtype="float64").bytes == 2 * 22_020_096


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numpys_dtype_has_the_same_name_and_size(dtype):
    workload = up3(dtype=dtype)
    assert workload.numpy_dtype == np.dtype(dtype)
    assert workload.numpy_dtype.itemsize == workload.itemsize


def test_bfloat16_without_its_package_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(UnsupportedError, match="pip install ml_dtypes"):
        up3(dtype="bfloat16").numpy_dtype


# ---- ids and dictionaries


@pytest.mark.parametrize(
    ("changes", "suffix"),
    [
        ({}, ""),
        ({"bias": True}, "_bias"),
        ({"bias": True, "activation": "relu"}, "_bias_relu"),
        ({"activation": "leaky_relu"}, "_leaky_relu0p2"),
        ({"activation": "elu", "alpha": -1.5e-7}, "_elum1p5em07"),
        ({"activation": "elu", "alpha": 1e30}, "_elu1e30"),
    ],
)
def test_the_id_is_readable(changes, suffix):
    assert up3(**changes).id == UP3_ID + suffix


def test_the_id_has_an_explicit_padding_in_numbers():
    workload = up3(output_shape=[1, 31, 30, 32, 128], padding=[1, 2, 0])
    assert workload.id == UP3_ID.replace("y32x32x32", "y31x30x32").replace("valid", "p1x2x0")


def test_the_id_gives_spatial_sizes_then_channels_in_both_formats():
    workload = Workload.make(
        [1, 256, 16, 16, 16], UP3["filters"], [1, 128, 32, 32, 32], 2, "VALID", "NCDHW"
    )
    assert workload.id == UP3_ID.replace("ndhwc", "ncdhw")


@given(legal())
def test_an_id_is_an_identifier_and_comes_back(workload):
    assert workload.id.isidentifier()
    assert workload.id.isascii()
    assert len(workload.id) < 200
    assert Workload.from_id(workload.id) == workload


@given(legal())
def test_a_dictionary_comes_back(workload):
    values = workload.to_dict()
    assert Workload.from_dict(values) == workload
    assert all(isinstance(v, list | str | bool | float | None) for v in values.values())


def test_recasting_keeps_the_computation():
    workload = Workload.make((2, 3, 4, 5, 6), (1, 2, 2, 7, 6), (2, 3, 8, 10, 7), (1, 2, 2))
    first = workload.recast("NCDHW", "bfloat16")
    assert (first.input, first.output_shape) == ((2, 6, 3, 4, 5), (2, 7, 3, 8, 10))
    assert (first.dtype, first.axes, first.filters) == ("bfloat16", workload.axes, workload.filters)
    assert first.recast("NDHWC", "float32") == workload


def test_the_id_says_the_precision_beside_the_dtype():
    assert up3(precision="bfloat16").id == UP3_ID.replace("f32", "f32pbf16")
    assert up3(precision="float32").id == UP3_ID.replace("f32", "f32pf32")
    assert up3(dtype="bfloat16").id == UP3_ID.replace("f32", "bf16")
    halves = up3(dtype="float16", precision="float16")
    assert halves.id == UP3_ID.replace("f32", "f16pf16")
    assert Workload.from_id(halves.id) == halves


def test_a_dictionary_without_a_precision_is_what_it_was():
    assert "precision" not in up3().to_dict()
    assert Workload.from_dict({**up3().to_dict(), "precision": None}) == up3()
    assert up3(precision="bfloat16").to_dict() == {**up3().to_dict(), "precision": "bfloat16"}


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_a_precision_is_for_float32_arrays(dtype):
    rule = f"^failed to make workload with precision='bfloat16': .* dtype is {dtype}; leave it out$"
    with pytest.raises(WorkloadError, match=rule):
        up3(dtype=dtype, precision="bfloat16")


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_precision_float16_is_for_float16_arrays(dtype):
    rule = "it is for arrays of float16, and dtype is"
    with pytest.raises(WorkloadError, match=f"precision='float16': {rule} {dtype}; leave it out$"):
        up3(dtype=dtype, precision="float16")


@pytest.mark.parametrize("precision", ["float64", "f16", "bf16", ""])
def test_another_precision_is_refused(precision):
    with pytest.raises(
        WorkloadError,
        match=f"precision='{precision}': it must be one of bfloat16, float32, float16",
    ):
        up3(precision=precision)


@pytest.mark.parametrize("precision", [True, 16, np.float16, ["bfloat16"]], ids=repr)
def test_a_precision_is_a_word(precision):
    with pytest.raises(ArgumentTypeError, match=r"precision=.*: it must be a str, one of bfloat16"):
        up3(precision=precision)


@pytest.mark.parametrize(
    ("changes", "products"),
    [
        ({}, "float32"),
        ({"precision": "bfloat16"}, "bfloat16"),
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": "float16"}, "float16"),
        ({"dtype": "float16", "precision": "float16"}, "float16"),
        ({"dtype": "float64"}, "float64"),
    ],
)
def test_factors_have_the_arrays_type_or_the_precision(changes, products):
    workload = up3(**changes)
    assert workload.product_dtype == products
    assert workload.sum_dtype == ("float64" if products == "float64" else "float32")


def test_recasting_gives_and_keeps_a_precision():
    permitted = up3(precision="bfloat16")
    assert up3().recast(precision="bfloat16") == permitted
    assert up3(dtype="float64").recast(dtype="float32", precision="bfloat16") == permitted
    assert permitted.recast("NCDHW").precision == "bfloat16"
    assert permitted.recast(dtype="float32") == permitted
    halves = up3(dtype="float16", precision="float16")
    assert up3().recast(dtype="float16", precision="float16") == halves
    assert halves.recast("NCDHW").precision == "float16"


def test_recasting_to_another_dtype_leaves_the_precision_behind():
    assert up3(precision="bfloat16").recast(dtype="float64") == up3(dtype="float64")


def test_recasting_other_arrays_to_a_precision_is_refused():
    for call in ({"dtype": "float16", "precision": "bfloat16"}, {"precision": "bfloat16"}):
        with pytest.raises(
            WorkloadError, match="it is for arrays of float32, and dtype is float16"
        ):
            up3(dtype="float16").recast(**call)


def test_recasting_to_nothing_else_changes_nothing():
    for data_format in DATA_FORMATS:
        workload = Workload.make(
            (1, 2, 2, 2, 2), (1, 1, 1, 2, 2), (1, 2, 2, 2, 2), 1, data_format=data_format
        )
        assert workload.recast() == workload


@given(legal())
def test_a_workload_survives_pickling(workload):
    assert pickle.loads(pickle.dumps(workload)) == workload


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        UP3_ID + "_",
        UP3_ID + "\n",
        UP3_ID.upper(),
        UP3_ID.replace("f32", "i32"),
        UP3_ID.replace("f32", "f64pbf16"),
        UP3_ID.replace("f32", "bf16pbf16"),
        UP3_ID.replace("f32", "f32pf64"),
        UP3_ID.replace("f32", "f32p"),
        UP3_ID.replace("f32", "f32_bf16"),
        UP3_ID.replace("_d1x1x1", ""),
        UP3_ID.replace("n1_", "n01_"),
        UP3_ID.replace("n1_", "n1" * 5000),
        UP3_ID.replace("n1_", "n\N{ARABIC-INDIC DIGIT ONE}_"),
        UP3_ID + "_elu",
        UP3_ID + "_elu1",
        UP3_ID + "_relu_bias",
        UP3_ID + "_relu1p0",
        UP3_ID.replace("valid", "p0x0x0"),  # has a name
        UP3_ID.replace("valid", "p1x0"),
        UP3_ID.replace("valid", "pm1x0x0"),
        UP3_ID.replace("y32", "y31").replace("valid", "p01x0x0"),
    ],
)
def test_a_text_that_is_no_id_is_refused(text):
    with pytest.raises(WorkloadError, match=r"^failed to "):
        Workload.from_id(text)


def test_an_id_of_an_illegal_workload_is_refused():
    with pytest.raises(WorkloadError, match="an output of 35 needs an input of 18"):
        Workload.from_id(UP3_ID.replace("y32", "y35").replace("valid", "same"))


def test_an_unknown_field_is_refused():
    with pytest.raises(WorkloadError, match="stride=2: the fields are input, filters"):
        Workload.from_dict({**UP3, "stride": 2})


def test_a_missing_field_is_refused():
    with pytest.raises(WorkloadError, match="strides is missing"):
        Workload.from_dict({name: UP3[name] for name in ("input", "filters", "output_shape")})


def test_something_else_than_a_mapping_is_refused():
    with pytest.raises(ArgumentTypeError, match="must be a mapping"):
        Workload.from_dict([1, 2])
