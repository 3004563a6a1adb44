"""What an operator takes, gives and refuses."""

import threading

import numpy as np
import pytest

from tvm_conv3dt import errors
from tvm_conv3dt.reference import integer_data, reference

UNDEFINED = np.float32(np.nan)


@pytest.fixture
def plain(bundle):
    """Operator, its input and the right result."""
    workload = bundle.workloads["test/plain"]
    x, filters, _ = integer_data(workload, 1)
    return bundle.operator("test/plain", filters), x, reference(workload, x, filters)


def out_like(y):
    return np.full(y.shape, UNDEFINED, np.float32)


@pytest.mark.parametrize("name", ["test/plain", "test/biased", "test/large"])
def test_result_is_exact_on_integers(bundle, name):
    workload = bundle.workloads[name]
    x, filters, bias = integer_data(workload, 2)
    y = bundle.operator(name, filters, bias)(x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, reference(workload, x, filters, bias))


def test_out_is_filled_and_returned(plain):
    op, x, expected = plain
    out = out_like(expected)
    assert op(x, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_new_results_do_not_share_memory(plain):
    op, x, expected = plain
    first = op(x)
    op(x + 1)
    np.testing.assert_array_equal(first, expected)


def reversed_view(x):
    return x[::-1, ::-1, ::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1, ::-1, ::-1]


def every_second(x):
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def at_offset(x, offset):
    memory = np.zeros(x.nbytes + 64 + offset, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    view = memory[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def read_only(x):
    copied = x.copy()
    copied.flags.writeable = False
    return copied


LAYOUTS = {
    "fortran": np.asfortranarray,
    "negative strides": reversed_view,
    "every second element": every_second,
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "one byte off": lambda x: at_offset(x, 1),
    "one element off": lambda x: at_offset(x, 4),
    "big-endian": lambda x: x.astype(">f4"),
    "read-only": read_only,
    "read-only and fortran": lambda x: read_only(np.asfortranarray(x)),
    "odd stride of a size of one": lambda x: np.lib.stride_tricks.as_strided(
        x, x.shape, (4, *x.strides[1:])
    ),
    "subclass": lambda x: x.view(type("Sub", (np.ndarray,), {})),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_input_may_have_any_layout(plain, layout):
    op, x, expected = plain
    np.testing.assert_array_equal(op(LAYOUTS[layout](x)), expected)


def test_input_may_be_one_value_broadcast(bundle):
    workload = bundle.workloads["test/plain"]
    _, filters, _ = integer_data(workload, 1)
    x = np.broadcast_to(np.float32(3), workload.input)
    y = bundle.operator("test/plain", filters)(x)
    np.testing.assert_array_equal(y, reference(workload, x, filters))


def test_input_may_come_by_dlpack(plain):
    op, x, expected = plain

    class Foreign:
        def __dlpack__(self, **options):
            return x.__dlpack__(**options)

        def __dlpack_device__(self):
            return x.__dlpack_device__()

    np.testing.assert_array_equal(op(Foreign()), expected)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "size of one" not in name])
def test_filters_and_bias_may_have_any_layout(bundle, layout):
    workload = bundle.workloads["test/biased"]
    x, filters, bias = integer_data(workload, 3)
    change = LAYOUTS[layout]
    if layout == "negative strides":
        op = bundle.operator("test/biased", change(filters), bias[::-1].copy()[::-1])
    else:
        op = bundle.operator("test/biased", change(filters), change(bias))
    np.testing.assert_array_equal(op(x), reference(workload, x, filters, bias))


@pytest.mark.parametrize(("offset", "copied"), [(0, False), (16, True), (3, True)])
def test_upload_aligns_what_is_not(plain, offset, copied):
    op, x, expected = plain
    given = at_offset(x, offset)
    held = op.upload(given)
    assert (held is not given) == copied
    assert held.ctypes.data % 64 == 0
    np.testing.assert_array_equal(op(held), expected)


def test_filters_are_copied(bundle):
    workload = bundle.workloads["test/biased"]
    x, filters, bias = integer_data(workload, 3)
    expected = reference(workload, x, filters, bias)
    op = bundle.operator("test/biased", filters, bias)
    filters[...], bias[...] = 0, 0
    np.testing.assert_array_equal(op(x), expected)


def test_filters_may_be_set_again(bundle):
    workload = bundle.workloads["test/biased"]
    x, filters, bias = integer_data(workload, 3)
    op = bundle.operator("test/biased", filters, bias)
    op.set_filters(-filters, 2 * bias)
    np.testing.assert_array_equal(op(x), reference(workload, x, -filters, 2 * bias))


@pytest.mark.parametrize(
    "layout", ["fortran", "every second element", "one byte off", "negative strides"]
)
def test_out_may_have_any_layout(plain, layout):
    op, x, expected = plain
    out = LAYOUTS[layout](out_like(expected))
    assert op(x, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_batch_may_be_a_multiple(bundle):
    workload = bundle.workloads["test/biased"]
    x, filters, bias = integer_data(workload, 4)
    y = bundle.operator("test/biased", filters, bias)(np.concatenate([x, -x, x]))
    once = reference(workload, x, filters, bias)
    np.testing.assert_array_equal(
        y, np.concatenate([once, reference(workload, -x, filters, bias), once])
    )


def test_batch_may_be_a_multiple_with_out(bundle):
    workload = bundle.workloads["test/biased"]
    x, filters, bias = integer_data(workload, 4)
    out = np.full((4, *workload.output_shape[1:]), UNDEFINED, np.float32)
    bundle.operator("test/biased", filters, bias)(np.concatenate([x, x]), out=out)
    once = reference(workload, x, filters, bias)
    np.testing.assert_array_equal(out, np.concatenate([once, once]))


@pytest.mark.parametrize(
    "shape",
    [
        (1, 4, 5, 6, 4),
        (1, 4, 5, 7, 3),
        (1, 6, 5, 4, 3),
        (0, 4, 5, 6, 3),
        (4, 5, 6, 3),
        (1, 1, 4, 5, 6, 3),
        (360,),
        (),
    ],
)
def test_input_of_another_shape_is_refused(plain, shape):
    op, _, _ = plain
    with pytest.raises(
        errors.ArrayError, match=r"failed to use array x with shape=.*1, 4, 5, 6, 3"
    ):
        op(np.zeros(shape, np.float32))


def test_batch_that_is_no_multiple_is_refused(bundle):
    workload = bundle.workloads["test/biased"]
    _, filters, bias = integer_data(workload, 4)
    op = bundle.operator("test/biased", filters, bias)
    with pytest.raises(errors.ArrayError, match="multiple of its batch"):
        op(np.zeros((3, *workload.input[1:]), np.float32))


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "complex64", "bool", "object"])
def test_input_of_another_dtype_is_refused(plain, dtype):
    op, x, _ = plain
    with pytest.raises(errors.ArgumentTypeError, match=rf"dtype={dtype}.*takes float32"):
        op(np.zeros(x.shape, dtype))


@pytest.mark.parametrize("value", [None, 3.0, [[1.0]], "x"])
def test_input_that_is_no_array_is_refused(plain, value):
    op, _, _ = plain
    with pytest.raises(errors.ArgumentTypeError, match="must be a NumPy array, or export DLPack"):
        op(value)


def test_input_that_cannot_be_exported_is_refused(plain):
    op, _, _ = plain

    class OnAnotherDevice:
        def __dlpack__(self, **options):
            raise BufferError("it is on a GPU")

        def __dlpack_device__(self):
            return (2, 0)

    with pytest.raises(errors.ArrayError, match="failed to use array x with OnAnotherDevice"):
        op(OnAnotherDevice())


def test_out_of_another_shape_is_refused(plain):
    op, x, expected = plain
    with pytest.raises(errors.ArrayError, match="failed to write to array out with shape="):
        op(x, out=np.zeros(expected.shape[1:], np.float32))


@pytest.mark.parametrize("dtype", ["float64", ">f4", "int32"])
def test_out_of_another_dtype_is_refused(plain, dtype):
    op, x, expected = plain
    with pytest.raises(errors.ArgumentTypeError, match="native byte order"):
        op(x, out=np.zeros(expected.shape, dtype))


def test_out_that_is_read_only_is_refused(plain):
    op, x, expected = plain
    with pytest.raises(errors.ArrayError, match="must be writable"):
        op(x, out=read_only(np.zeros(expected.shape, np.float32)))


def test_out_that_is_no_array_is_refused(plain):
    op, x, expected = plain
    with pytest.raises(errors.ArgumentTypeError, match="must be a NumPy array"):
        op(x, out=expected.tolist())


def test_out_over_the_input_is_refused(plain):
    op, x, expected = plain
    memory = np.zeros(expected.size + 8, np.float32)
    out = memory[8:].reshape(expected.shape)
    shared = memory[: x.size].reshape(x.shape)
    with pytest.raises(errors.ArrayError, match="must not share memory with the input"):
        op(shared, out=out)
    assert not memory.any()


def test_out_beside_the_input_in_one_memory_is_used(plain):
    op, x, expected = plain
    memory = np.full(x.size + expected.size, UNDEFINED, np.float32)
    memory[: x.size] = x.ravel()
    out = memory[x.size :].reshape(expected.shape)
    op(memory[: x.size].reshape(x.shape), out=out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    "shape", [(2, 2, 2, 7, 3), (2, 2, 2, 8, 2), (2, 2, 2, 3, 8), (2, 2, 8, 3), (1, 2, 2, 8, 3)]
)
def test_filters_of_another_shape_are_refused(bundle, shape):
    with pytest.raises(errors.ArrayError, match=r"array filters with shape=.*2, 2, 2, 8, 3"):
        bundle.operator("test/plain", np.zeros(shape, np.float32))


def test_filters_of_another_dtype_are_refused(bundle):
    filters = np.zeros(bundle.workloads["test/plain"].filters)
    with pytest.raises(errors.ArgumentTypeError, match="array filters with dtype=float64"):
        bundle.operator("test/plain", filters)


def test_missing_bias_is_refused(bundle):
    _, filters, _ = integer_data(bundle.workloads["test/biased"], 1)
    with pytest.raises(errors.ArrayError, match=r"array bias with None: .*shape \[4\]"):
        bundle.operator("test/biased", filters)


def test_bias_too_much_is_refused(bundle):
    _, filters, _ = integer_data(bundle.workloads["test/plain"], 1)
    with pytest.raises(errors.ArrayError, match="this workload has no bias"):
        bundle.operator("test/plain", filters, np.zeros(8, np.float32))


def test_bias_of_another_shape_is_refused(bundle):
    _, filters, _ = integer_data(bundle.workloads["test/biased"], 1)
    with pytest.raises(errors.ArrayError, match=r"array bias with shape=\[5\]"):
        bundle.operator("test/biased", filters, np.zeros(5, np.float32))


def test_non_finite_values_pass_through(plain):
    op, x, _ = plain
    x[0, 0, 0, 0, 0] = np.inf
    x[0, 3, 4, 5, 2] = np.nan
    y = op(x)
    assert np.isinf(y[0, :2, :2, :2]).all()
    assert np.isnan(y[0, 6:, 8:, 10:]).all()
    assert np.isfinite(y[0, 2:6]).all()


def test_packed_filters_are_aligned(bundle):
    from tvm_conv3dt.memory import aligned_empty

    for size in range(1, 100):
        array = aligned_empty((size, 3), np.dtype("float32"))
        assert array.ctypes.data % 64 == 0
        assert array.shape == (size, 3)


def test_python_threads_may_share_an_operator(bundle):
    workload = bundle.workloads["test/large"]
    _, filters, _ = integer_data(workload, 5)
    op = bundle.operator("test/large", filters)
    inputs = [integer_data(workload, seed)[0] for seed in range(4)]
    expected = [reference(workload, x, filters) for x in inputs]
    right = [False] * 4

    def call(index):
        right[index] = all(np.array_equal(op(inputs[index]), expected[index]) for _ in range(5))

    callers = [threading.Thread(target=call, args=(index,)) for index in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert right == [True] * 4


def test_operator_says_what_it_is(bundle):
    _, filters, _ = integer_data(bundle.workloads["test/plain"], 1)
    op = bundle.operator("test/plain", filters)
    assert op.workload == bundle.workloads["test/plain"]
    assert op.workspace_bytes == 0
    assert repr(op) == f"<Operator test/plain: {op.workload.id}>"
