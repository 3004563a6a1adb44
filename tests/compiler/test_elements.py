"""Are half types widened exactly, and rounded as NumPy rounds them?"""

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")
ml_dtypes = pytest.importorskip("ml_dtypes")

from tvm import te

from tvm_conv3dt.compiler.elements import narrow, stored_dtype, turns, widen
from tvm_conv3dt.compiler.target import target_of
from tvm_conv3dt.spec import Workload

DTYPES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
EVERY_HALF = np.arange(1 << 16, dtype=np.uint16)


def workload(dtype, data_format="NDHWC"):
    return Workload.make((1,) * 5, (1,) * 5, (1,) * 5, 1, data_format=data_format, dtype=dtype)


def applied(host, function, source, stored, result):
    """`function` of each element, compiled."""
    x = te.placeholder(source.shape, str(source.dtype), "x")
    y = te.compute(x.shape, lambda i: function(x[i], stored), "y")
    module = tvm.compile(te.create_prim_func([x, y]), target=target_of(host))
    out = tvm.runtime.tensor(np.empty(source.shape, result))
    module["main"](tvm.runtime.tensor(source), out)
    return out.numpy()


def floats():
    """Bits of all kinds: random ones, ties, infinities, NaN with each sign and with few and many bits."""
    bits = np.random.default_rng(0).integers(0, 1 << 32, 1 << 16, dtype=np.uint64)
    bits = bits.astype(np.uint32)
    bits[:4096] |= 0x7F800000
    bits[4096:16384] &= 0xFFFF8000
    bits[:6] = 0xFFFFFFFF, 0x7FFFFFFF, 0x7F800000, 0xFF800000, 0x7F800001, 0x7F7FFFFF
    return bits.view(np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_half_is_widened_exactly(dtype, host):
    stored = stored_dtype(workload(dtype))
    source = EVERY_HALF if stored == "uint16" else EVERY_HALF.view(DTYPES[dtype])
    found = applied(host, widen, source, stored, np.float32)
    expected = EVERY_HALF.view(DTYPES[dtype]).astype(np.float32)
    assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_floats_are_rounded_to_nearest_even(dtype, host):
    stored = stored_dtype(workload(dtype))
    source = floats()
    found = applied(host, narrow, source, stored, stored).view(DTYPES[dtype])
    with np.errstate(all="ignore"):
        expected = source.astype(DTYPES[dtype])
    nan = np.isnan(source)
    assert np.isnan(found[nan].astype(np.float32)).all()
    assert np.array_equal(found[~nan].view(np.uint16), expected[~nan].view(np.uint16))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_whole_types_stay_as_they_are(dtype):
    assert stored_dtype(workload(dtype)) == dtype
    assert widen(1.5, dtype) == narrow(1.5, dtype) == 1.5


@pytest.mark.parametrize(
    ("data_format", "channels", "expected"),
    [("NDHWC", 3, False), ("NCDHW", 3, True), ("NCDHW", 1, False)],
)
def test_channels_first_are_turned_where_there_are_several(data_format, channels, expected):
    assert turns(workload("float32", data_format), channels) is expected
