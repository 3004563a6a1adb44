"""Illegal calls: a legal one, of which one argument breaks a rule or is something else altogether."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import scipy.sparse
from hypothesis import strategies as st

from tvm_conv3dt.errors import show
from tvm_conv3dt.spec import Workload

BASE = Workload.make((1, 2, 3, 4, 3), (2, 2, 2, 5, 3), (1, 4, 6, 8, 5), 2, bias=True)
X, FILTERS = np.ones(BASE.input, np.float32), np.ones(BASE.filters, np.float32)
BIAS = np.ones(BASE.out_channels, np.float32)

HUGE = [2**31, 2**62, 2**63 - 1, 2**63, 2**64, 2**70, 10**400, 10**6000]
NO_SIZE = [0, -1, -(2**31), -(2**62), -(10**400), *HUGE]
NO_INTEGER = [
    True,
    False,
    np.True_,
    1.0,
    2.5,
    float("nan"),
    float("inf"),
    np.float32(2),
    None,
    "2",
    b"2",
    "",
    1j,
    [2],
    (2, 2),
    {},
    Fraction(2),
    np.array([2]),
    object(),
]
NO_SEQUENCE = [None, "12345", b"12345", {}, {1, 2}, dict.fromkeys(range(5)), object(), len]
NO_ARRAY = [
    None,
    "array",
    b"array",
    {},
    {1.0},
    object(),
    len,
    1j,
    [[1.0], [2.0, 3.0]],
    [None] * 5,
    ["a", "b"],
    [1.0, object()],
    scipy.sparse.coo_array(np.eye(3, dtype=np.float32)),
    scipy.sparse.csr_matrix(np.eye(3, dtype=np.float32)),
    Workload,
    (each for each in [1.0]),
]
NO_DTYPE = [
    *("int8", "uint8", "int32", "int64", "bool", "complex64", "complex128", "object", "U3", "S3"),
    *("datetime64[s]", "timedelta64[ns]", "V4", "f4,f4", np.longdouble),
    *(ml_dtypes.float8_e4m3fn, ml_dtypes.int4),
]
NO_TEXT = [1.5, b"SAME", object(), {}, len, float("nan"), True, 1j]
OTHER_TEXT = [
    "",
    "same",
    "valid",
    "SAME ",
    "FULL",
    "EXPLICIT",
    "NHWC",
    "N",
    "ndhwc",
    "gelu",
    "x" * 10000,
]


def array(shape: Any, dtype: Any = np.float32) -> np.ndarray:
    """An array of any shape that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


@st.composite
def _replaced(draw: st.DrawFn, shape: tuple[int, ...], entries: list[Any]) -> list[Any]:
    changed: list[Any] = list(shape)
    changed[draw(st.integers(0, len(shape) - 1))] = draw(st.sampled_from(entries))
    return changed


def _of_length(shortest: int, longest: int, *legal: int) -> st.SearchStrategy[list[int]]:
    lengths = [n for n in range(shortest, longest + 1) if n not in legal]
    return st.sampled_from(lengths).flatmap(lambda n: st.just([2] * n))


def _other(shape: tuple[int, ...], first: int = 0) -> st.SearchStrategy[list[int]]:
    """A shape of which one size, of those from `first` on, is too large by one, two or three."""
    return st.tuples(st.integers(first, len(shape) - 1), st.integers(1, 3)).map(
        lambda change: [n + change[1] * (i == change[0]) for i, n in enumerate(shape)]
    )


def shapes(shape: tuple[int, ...], first: int = 0) -> st.SearchStrategy[Any]:
    """What is given for a shape and cannot be one, or not that of this call, whose sizes before `first` are free."""
    return st.one_of(
        st.sampled_from([*NO_SEQUENCE, 4, 4.0, np.ones(5), np.ones(5, bool), np.ones((5, 1), int)]),
        _of_length(0, 12, 5),
        _replaced(shape, NO_SIZE),
        _replaced(shape, NO_INTEGER),
        _other(shape, first),
        st.just(np.zeros(10**7, np.int8)),
    )


def per_axis() -> st.SearchStrategy[Any]:
    """What is given for strides or dilations and cannot be."""
    return st.one_of(
        st.sampled_from([*NO_SIZE, *NO_SEQUENCE[1:], True, np.True_, 1.0, 2.5, float("nan"), 1j]),
        st.sampled_from(["2", b"2", "", np.float32(2), np.array(2.0), Fraction(2), BASE]),
        _of_length(0, 12, 1, 3, 5),
        _replaced((2, 2, 2), NO_SIZE),
        _replaced((2, 2, 2), NO_INTEGER),
        st.sampled_from([[2, 2, 2, 2, 1], [1, 2, 2, 2, 2], [1, 1, 2, 2, 2], [2] * 5]),
    )


def arrays(shape: tuple[int, ...], first: int = 0) -> st.SearchStrategy[Any]:
    """What is given for an array and cannot be, or not one of this call, whose sizes before `first` are free."""
    ranks = st.lists(st.integers(0, 5), max_size=8).filter(lambda sizes: len(sizes) != len(shape))
    return st.one_of(
        st.sampled_from(NO_ARRAY),
        st.sampled_from(NO_DTYPE).map(lambda dtype: np.zeros(shape, dtype)),
        st.sampled_from([np.float16, np.float64, ml_dtypes.bfloat16]).map(
            lambda d: array(shape, d)
        ),
        ranks.map(array),
        _replaced(shape, [0]).map(array),
        _other(shape, first).map(array),
        st.just(np.ma.masked_array(np.ones(shape, np.float32), np.ones(shape, bool))),
    )


def outs(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """What is given for `out` and cannot be."""
    read_only = np.zeros(shape, np.float32)
    read_only.flags.writeable = False
    return st.one_of(
        st.sampled_from(NO_ARRAY[1:]),
        st.sampled_from([*NO_DTYPE, "float16", "float64", ">f4"]).map(lambda d: np.zeros(shape, d)),
        _other(shape).map(lambda sizes: np.zeros(sizes, np.float32)),
        _replaced(shape, [0]).map(lambda sizes: np.zeros(sizes, np.float32)),
        st.just(np.zeros(shape, np.float32).tolist()),
        st.just(read_only),
        st.just(array(shape)),
    )


def texts(*legal: str) -> st.SearchStrategy[Any]:
    """What is given for a word and is none of those that are legal."""
    return st.sampled_from([*NO_TEXT, *OTHER_TEXT]) | st.text().filter(lambda t: t not in legal)


ALPHAS = st.sampled_from([float("nan"), float("inf"), 10**400, True, "1", 1j, [1.0], object()])


def _is_batch(x: Any) -> bool:
    """Whether it is some batches of the right input, which an operator takes."""
    return (
        type(x) is np.ndarray
        and x.dtype == np.float32
        and x.shape[1:] == BASE.input[1:]
        and len(x) > 0
    )


class Changes(dict[str, Any]):
    """Arguments by their names, told in a line."""

    def __repr__(self) -> str:
        return ", ".join(f"{name}={_told(value)}" for name, value in self.items())


def _told(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{type(value).__name__} {value.dtype} {list(value.shape)}"
    return show(value)


@st.composite
def changes(draw: st.DrawFn, options: dict[str, st.SearchStrategy[Any]]) -> Changes:
    """Draw one argument's change; alpha's with an activation that has one."""
    name = draw(st.sampled_from(list(options)))
    changed = Changes({name: draw(options[name])})
    return Changes(activation="elu", **changed) if name == "alpha" else changed


_TAPS = 3  # any number of them goes with padding SAME
WORDS = {
    "padding": texts("SAME", "VALID"),
    "data_format": texts("NDHWC"),
    "activation": texts("relu", "leaky_relu", "elu", "sigmoid", "tanh"),
    "alpha": ALPHAS,
}
GEOMETRY = {
    "output_shape": shapes(BASE.output_shape),
    "strides": per_axis(),
    "dilations": per_axis(),
}


def calls() -> st.SearchStrategy[Changes]:
    """Changes of a call of `conv3d_transpose`."""
    return changes(
        {
            **GEOMETRY,
            **WORDS,
            "input": arrays(BASE.input),
            "filters": arrays(BASE.filters, _TAPS),
            "bias": arrays((BASE.out_channels,)).filter(lambda bias: bias is not None),
            "out": outs(BASE.output_shape),
        }
    )


def workloads() -> st.SearchStrategy[Changes]:
    """Changes of a call of `Workload.make`."""
    no_flag = st.sampled_from([None, 0, 1, 1.0, "yes", [], np.zeros(5), object()])
    no_dtype = st.sampled_from(
        [None, "int32", "float", "f32", "FLOAT32", float, int, 3, object(), np.int8]
    )
    return changes(
        {
            **GEOMETRY,
            **WORDS,
            "input": shapes(BASE.input),
            "filters": shapes(BASE.filters, _TAPS),
            "bias": no_flag,
            "dtype": no_dtype,
        }
    )


def operations() -> st.SearchStrategy[Changes]:
    """Changes of a call of an operator, or, where they are of filters or bias, of `set_filters`."""
    return changes(
        {
            "x": arrays(BASE.input).filter(lambda x: not _is_batch(x)),
            "out": outs(BASE.output_shape),
            "filters": arrays(BASE.filters),
            "bias": arrays((BASE.out_channels,)),
        }
    )
