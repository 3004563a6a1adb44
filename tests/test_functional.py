"""Does `conv3d_transpose` do what TensorFlow's does, and refuse what TensorFlow refuses?"""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tvm_conv3dt
from tvm_conv3dt.errors import (
    ArgumentTypeError,
    ArrayError,
    CompilerMissingError,
    Conv3dtError,
    WorkloadError,
)
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import Workload

pytest.importorskip("tvm")

ROOT = Path(tvm_conv3dt.__file__).parent.parent
WORKLOAD = Workload.make((1, 2, 3, 4, 3), (2, 2, 2, 5, 3), (1, 4, 6, 8, 5), 2)
X = np.ones(WORKLOAD.input, np.float32)
FILTERS = np.ones(WORKLOAD.filters, np.float32)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TVM_CONV3DT_CACHE", str(folder))
        yield folder


def legal(**changes):
    arguments = {
        "input": X,
        "filters": FILTERS,
        "output_shape": WORKLOAD.output_shape,
        "strides": 2,
    }
    return tvm_conv3dt.conv3d_transpose(**{**arguments, **changes})


def zeros(*shape):
    """An array of any shape that takes no memory."""
    return np.broadcast_to(np.zeros((), np.float32), shape)


OUT = [1, 4, 6, 8, 5]
ENDLESS: list = []
ENDLESS.append(ENDLESS)
REFUSED = {
    "output_shape of length 1": ({"output_shape": [4]}, WorkloadError, "length is 1 and must be 5"),
    "empty output_shape": ({"output_shape": []}, WorkloadError, "length is 0 and must be 5"),
    "negative size": (
        {"output_shape": [1, -4, 6, 8, 5]},
        WorkloadError,
        "output_shape=[1, -4, 6, 8, 5]: its entry 1 must be at least 1",
    ),
    "size of zero": (
        {"output_shape": [1, 4, 0, 8, 5]},
        WorkloadError,
        "entry 2 must be at least 1",
    ),
    "huge size": ({"output_shape": [1, 4, 6, 2**62, 5]}, WorkloadError, "entry 3 must be at most"),
    "size past 64 bits": ({"output_shape": [1, 4, 6, 2**70, 5]}, WorkloadError, "at most"),
    "output that no input has": (
        {"output_shape": [1, 9, 6, 8, 5]},
        WorkloadError,
        "an output of 9 needs an input of 5, and the input has 2",
    ),
    "bools as sizes": (
        {"output_shape": [True, 4, 6, 8, 5]},
        ArgumentTypeError,
        "its entries must be integers, not bools",
    ),
    "floats as sizes": (
        {"output_shape": [1.0, *OUT[1:]]},
        ArgumentTypeError,
        "integers, not float",
    ),
    "None as output_shape": ({"output_shape": None}, ArgumentTypeError, "a sequence of integers"),
    "stride of 2**62": ({"strides": 2**62}, WorkloadError, "entry 0 must be at most 2147483647"),
    "stride of zero": ({"strides": 0}, WorkloadError, "strides=0: its entry 0 must be at least 1"),
    "negative stride": ({"strides": [2, -2, 2]}, WorkloadError, "entry 1 must be at least 1"),
    "two strides": ({"strides": [2, 2]}, WorkloadError, "length is 2 and must be 1, 3 or 5"),
    "stride of channels": ({"strides": [1, 2, 2, 2, 2]}, WorkloadError, "for N and C of NDHWC"),
    "dilation of zero": ({"dilations": 0}, WorkloadError, "dilations=0: its entry 0"),
    "filter without channels": (
        {"filters": zeros(1, 46341, 46341, 1, 0)},
        WorkloadError,
        "filters=[1, 46341, 46341, 1, 0]: its entry 4 must be at least 1",
    ),
    "filter without taps": (
        {"filters": zeros(0, 2, 2, 5, 3)},
        WorkloadError,
        "its entry 0 must be",
    ),
    "no batch": (
        {"input": zeros(0, 2, 3, 4, 3)},
        WorkloadError,
        "input=[0, 2, 3, 4, 3]: its entry 0",
    ),
    "input of rank 4": ({"input": zeros(2, 3, 4, 3)}, WorkloadError, "length is 4 and must be 5"),
    "filters of rank 4": (
        {"filters": zeros(2, 2, 5, 3)},
        WorkloadError,
        "length is 4 and must be 5",
    ),
    "precision of other arrays": (
        {
            "input": X.astype(np.float16),
            "filters": FILTERS.astype(np.float16),
            "precision": "bfloat16",
        },
        WorkloadError,
        "precision='bfloat16': it is for arrays of float32, and dtype is float16",
    ),
    "precision of float16 arrays": (
        {"precision": "float16"},
        WorkloadError,
        "precision='float16': it is for arrays of float16, and dtype is float32",
    ),
    "precision that is none": (
        {"precision": "f16"},
        WorkloadError,
        "one of bfloat16, float32, float16",
    ),
    "a number as input": ({"input": 1.0}, WorkloadError, "length is 0 and must be 5"),
    "channels of input": (
        {"input": zeros(1, 2, 3, 4, 4)},
        WorkloadError,
        "its channels, entry 4 in NDHWC, are 4 and must be 3, the in_channels",
    ),
    "channels of output": ({"output_shape": [1, 4, 6, 8, 6]}, WorkloadError, "are 6 and must be 5"),
    "batch of output": (
        {"output_shape": [2, 4, 6, 8, 5]},
        WorkloadError,
        "its batch is 2 and must be 1",
    ),
    "another padding": ({"padding": "FULL"}, WorkloadError, "it must be one of SAME, VALID"),
    "padding of every axis": (
        {"padding": [[0, 0], [0, 0], [1, 1], [1, 1], [0, 0]]},
        WorkloadError,
        "its length is 5 and must be 3",
    ),
    "negative padding": ({"padding": [0, -1, 0]}, WorkloadError, "entry 1 must be at least 0"),
    "padding of one number": (
        {"padding": 1},
        ArgumentTypeError,
        "it must be one of SAME, VALID, or three integers",
    ),
    "padding that leaves too little": (
        {"padding": [1, 0, 0], "output_shape": [1, 5, 6, 8, 5]},
        WorkloadError,
        "an input of 2 allows outputs from 1 to 4",
    ),
    "another format": ({"data_format": "NHWC"}, WorkloadError, "one of NDHWC, NCDHW"),
    "different dtypes": (
        {"filters": FILTERS.astype(np.float64)},
        ArgumentTypeError,
        "input of float32 and filters of float64: they must have the same dtype",
    ),
    "integers": (
        {"input": X.astype(np.int32)},
        ArgumentTypeError,
        "failed to use array input with dtype=int32: it must be one of float32",
    ),
    "bools": ({"filters": FILTERS > 0}, ArgumentTypeError, "filters with dtype=bool"),
    "ragged lists": ({"input": [[1.0], [2.0, 3.0]]}, ArgumentTypeError, "it must be an array"),
    "None as input": (
        {"input": None},
        ArgumentTypeError,
        "array input with NoneType None: it must",
    ),
    "text as filters": ({"filters": "filters"}, ArgumentTypeError, "use array filters with str"),
    "input and bias of different dtypes": (
        {"bias": np.ones(5, np.float16)},
        ArgumentTypeError,
        "input of float32 and bias of float16: they must have the same dtype",
    ),
    "bias of another length": (
        {"bias": [1.0] * 4},
        ArrayError,
        "array bias with shape=[4]: this workload takes the shape [5]",
    ),
    "text as bias": ({"bias": "bias"}, ArgumentTypeError, "use array bias with str 'bias'"),
    "bools as bias": ({"bias": [True] * 5}, ArgumentTypeError, "array bias with dtype=bool"),
    "another activation": (
        {"activation": "softmax"},
        WorkloadError,
        "it must be one of relu, leaky_relu, elu, sigmoid, tanh",
    ),
    "function as activation": ({"activation": np.tanh}, ArgumentTypeError, "it must be a str"),
    "alpha without its activation": (
        {"activation": "relu", "alpha": 0.5},
        WorkloadError,
        "only leaky_relu and elu have an alpha",
    ),
    "infinite alpha": (
        {"activation": "elu", "alpha": np.inf},
        WorkloadError,
        "it must be finite",
    ),
    "out of another shape": (
        {"out": np.zeros(OUT[1:], np.float32)},
        ArrayError,
        "array out with shape=[4, 6, 8, 5]: this call gives the shape [1, 4, 6, 8, 5]",
    ),
    "out of another dtype": (
        {"out": np.zeros(OUT)},
        ArgumentTypeError,
        "this workload gives float32 in native byte order",
    ),
    "list as out": ({"out": [0.0]}, ArgumentTypeError, "array out with list [0.0]: it must be"),
    "masked input": (
        {"input": np.ma.masked_greater(X, 0)},
        ArrayError,
        "masked elements have no value; give them values with: input.filled(0)",
    ),
    "objects": ({"input": X.astype(object)}, ArgumentTypeError, "array input with dtype=object"),
    "list of itself": ({"input": ENDLESS}, ArgumentTypeError, "failed to use array input with"),
    "list of text": ({"input": ["a", "b"]}, ArgumentTypeError, "array input with dtype=<U1"),
    "bools as strides": ({"strides": True}, ArgumentTypeError, "must be integers, not bools"),
    "array of bools as output_shape": (
        {"output_shape": np.ones(5, bool)},
        ArgumentTypeError,
        "its entries must be integers, not bools",
    ),
    "output_shape of rank 2": ({"output_shape": np.ones((5, 2), int)}, WorkloadError, "dimension"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_call_is_refused_by_its_error(name):
    changes, error, text = REFUSED[name]
    with pytest.raises(error, match=re.escape(text)) as caught:
        legal(**changes)
    assert str(caught.value).startswith("failed to ")


def test_legal_call_after_a_refused_one_is_right():
    with pytest.raises(Conv3dtError):
        legal(strides=2**62)
    assert np.array_equal(legal(), reference(WORKLOAD, X, FILTERS))


def test_integers_are_exact():
    x, filters, _ = integer_data(WORKLOAD, seed=0)
    found = legal(input=x, filters=filters)
    assert found.dtype == np.float32
    assert np.array_equal(found, reference(WORKLOAD, x, filters))


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", "float32"), ("float16", "float16")])
def test_precision_is_a_workload_of_its_own_and_exact_on_integers(precision, dtype):
    workload = WORKLOAD.recast(dtype=dtype, precision=precision)
    x, filters, _ = integer_data(workload, seed=0)
    found = legal(input=x, filters=filters, precision=precision)
    assert found.dtype == dtype
    assert np.array_equal(found, reference(workload, x, filters))
    used = tvm_conv3dt.functional.bundle_for(workload)
    assert [each.precision for each in used.workloads.values()] == [precision]


def test_arrays_of_any_strides_do():
    x, filters, _ = integer_data(WORKLOAD, seed=0)
    expected = reference(WORKLOAD, x, filters)
    turned = np.asfortranarray(x), filters[..., ::-1].copy()[..., ::-1]
    assert np.array_equal(legal(input=turned[0], filters=turned[1]), expected)


@pytest.mark.parametrize("kind", [float, int])
def test_lists_of_numbers_are_float32(kind):
    found = legal(input=X.astype(kind).tolist(), filters=FILTERS.astype(kind).tolist())
    assert found.dtype == np.float32
    assert np.array_equal(found, reference(WORKLOAD, X, FILTERS))


def test_list_goes_with_an_array():
    assert np.array_equal(legal(filters=FILTERS.tolist()), legal())


def test_list_is_of_the_dtype_of_the_arrays_beside_it(monkeypatch):
    class Reached(Exception):
        pass

    def reached(workload):
        raise Reached(workload.dtype)

    monkeypatch.setattr(importlib.import_module("tvm_conv3dt.functional"), "bundle_for", reached)
    for names in (["filters"], ["input"], ["bias"], ["filters", "bias"]):
        given = {"input": X, "filters": FILTERS, "bias": np.ones(5)}
        given = {name: np.asarray(value, np.float64) for name, value in given.items()}
        lists = {name: given[name].tolist() for name in names}
        with pytest.raises(Reached, match="float64"):
            legal(**{**given, **lists})


def test_list_of_numpys_numbers_has_their_dtype():
    found = legal(input=[*X], filters=[[*each] for each in FILTERS])
    assert np.array_equal(found, legal())
    with pytest.raises(ArgumentTypeError, match="input of float64 and filters of float32"):
        legal(input=[*X.astype(np.float64)])


def test_bias_and_activation_follow():
    x, filters, _ = integer_data(WORKLOAD, seed=0)
    bias = np.arange(-2, 3, dtype=np.float32)
    more = {"bias": True, "activation": "leaky_relu", "alpha": 0.5}
    workload = Workload.make(WORKLOAD.input, WORKLOAD.filters, WORKLOAD.output_shape, 2, **more)
    expected = reference(workload, x, filters, bias)
    for given in (bias, bias.tolist(), [int(each) for each in bias]):
        found = legal(input=x, filters=filters, **{**more, "bias": given})
        assert np.array_equal(found, expected)


def test_activation_needs_no_bias():
    assert np.array_equal(legal(input=-X, activation="relu"), np.zeros(OUT))


def test_out_is_filled_and_returned():
    out = np.full(OUT, np.nan, np.float32)
    assert legal(out=out) is out
    assert np.array_equal(out, reference(WORKLOAD, X, FILTERS))


def test_out_over_the_input_is_refused():
    memory = np.ones(np.prod(OUT), np.float32)
    x = memory[: X.size].reshape(X.shape)
    with pytest.raises(ArrayError, match="must not share memory with the input"):
        legal(input=x, out=memory.reshape(OUT))
    assert memory.all()


def test_filters_that_change_between_calls_count():
    filters = FILTERS.copy()
    legal(filters=filters)
    filters *= 2
    assert np.array_equal(legal(filters=filters), reference(WORKLOAD, X, filters))


def test_big_endian_arrays_do():
    assert np.array_equal(legal(input=X.astype(">f4")), legal())
    assert np.array_equal(legal(filters=FILTERS.astype(">f4")), legal())


@pytest.mark.peers
def test_torch_gives_torch():
    torch = pytest.importorskip("torch")
    x, filters, bias = (torch.ones(each) for each in (X.shape, FILTERS.shape, 5))
    found = legal(input=x, filters=filters, bias=bias, output_shape=torch.Size(OUT))
    assert type(found) is torch.Tensor
    assert np.array_equal(found.numpy(), reference(WORKLOAD, X, FILTERS) + 1)
    assert type(legal(filters=filters)) is np.ndarray
    out = torch.zeros(OUT)
    assert legal(out=out) is out
    assert torch.equal(out, found - 1)


@pytest.mark.oracle
def test_tensorflow_gives_tensorflow():
    tf = pytest.importorskip("tensorflow")
    shape = tf.constant(OUT)
    given = {"input": tf.constant(X), "filters": tf.Variable(FILTERS), "output_shape": shape}
    found = legal(**given)
    assert isinstance(found, tf.Tensor)
    expected = tf.nn.conv3d_transpose(given["input"], given["filters"], shape, 2)
    assert np.array_equal(found.numpy(), expected.numpy())


@pytest.mark.parametrize("strides", [2, [2], [2, 2, 2], [1, 2, 2, 2, 1], np.array([2, 2, 2])])
def test_strides_are_written_in_any_way(strides):
    assert np.array_equal(legal(strides=strides), legal())


@pytest.mark.parametrize("padding", [(1, 1, 1), [2, 0, 1], np.array([2, 5, 7])])
def test_padding_may_be_explicit(padding):
    output = [1, 2, 2, 1, 5]
    workload = Workload.make(WORKLOAD.input, WORKLOAD.filters, output, 2, padding)
    x, filters, _ = integer_data(workload, seed=0)
    found = legal(input=x, filters=filters, output_shape=output, padding=padding)
    assert np.array_equal(found, reference(workload, x, filters))


def test_padding_in_numbers_is_the_workload_that_its_name_is():
    assert Workload.make(WORKLOAD.input, WORKLOAD.filters, OUT, 2, (0, 0, 0)).padding == "VALID"
    assert np.array_equal(legal(padding=(0, 0, 0)), legal())


def test_name_changes_nothing():
    assert np.array_equal(legal(name="up3"), legal())


def test_loaded_bundle_that_holds_the_workload_is_used(monkeypatch):
    from tvm_conv3dt.compiler import cache as compiler_cache

    bundle = tvm_conv3dt.load(compiler_cache.bundle_for(WORKLOAD))

    def unwanted(workload):
        raise AssertionError("nothing should be compiled")

    monkeypatch.setattr(compiler_cache, "bundle_for", unwanted)
    assert np.array_equal(legal(), reference(WORKLOAD, X, FILTERS))
    assert WORKLOAD in bundle


WITHOUT_COMPILER = """
import sys
sys.path.insert(0, {root!r})
from tvm_conv3dt.cli.without_compiler import NoCompiler
sys.meta_path.insert(0, NoCompiler())
import numpy as np
import tvm_conv3dt
from tvm_conv3dt.errors import CompilerMissingError
bundles = [tvm_conv3dt.load(path) for path in sys.argv[1:]]
def call(channels):
    x, filters = np.ones((1, 2, 3, 4, 3), np.float32), np.ones((2, 2, 2, channels, 3), np.float32)
    return tvm_conv3dt.conv3d_transpose(x, filters, (1, 4, 6, 8, channels), 2)
try:
    call(6)
except CompilerMissingError as error:
    print(error)
if bundles:
    print(call(5).ravel()[0])
"""


def without_compiler(*bundles):
    program = WITHOUT_COMPILER.format(root=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, bundles)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TVM_CONV3DT_CACHE": os.devnull},
    )
    return done.stdout.splitlines()


def test_without_the_compiler_the_error_says_that_nothing_is_loaded():
    (said,) = without_compiler()
    assert said.startswith("failed to call conv3d_transpose with n1_x2x3x4x3_k2x2x2_y4x6x8x6")
    assert "the compiler is not installed, and the loaded bundles hold nothing" in said
    assert issubclass(CompilerMissingError, ImportError)


def test_without_the_compiler_a_loaded_bundle_serves_and_is_listed():
    from tvm_conv3dt.compiler.cache import bundle_for

    said, value = without_compiler(bundle_for(WORKLOAD))
    assert f"the loaded bundles hold {WORKLOAD.id};" in said
    assert value == "3.0"
