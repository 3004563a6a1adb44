"""Are exactly the sizes legal that TensorFlow allows, and PyTorch and ONNX where padding is explicit?"""

import numpy as np
import pytest

from tvm_conv3dt.errors import WorkloadError
from tvm_conv3dt.spec import PADDINGS, Workload


def line(size, output, kernel, stride, dilation=1, padding="SAME"):
    """A workload whose depth alone is interesting."""
    return Workload.make(
        [1, size, 1, 1, 1],
        [kernel, 1, 1, 1, 1],
        [1, output, 1, 1, 1],
        [stride, 1, 1],
        padding,
        dilations=[dilation, 1, 1],
    )


def is_legal(*args, **kwargs):
    try:
        line(*args, **kwargs)
    except WorkloadError:
        return False
    return True


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_exactly_the_outputs_of_the_table_are_legal(size, kernel, stride, dilation, padding):
    extent = (kernel - 1) * dilation + 1
    if padding == "VALID":
        first = (size - 1) * stride + extent
        expected = range(first, first + stride)
    else:
        expected = range((size - 1) * stride + 1, size * stride + 1)
    found = [o for o in range(1, 60) if is_legal(size, o, kernel, stride, dilation, padding)]
    assert found == list(expected)


def test_the_last_layer_of_gc_net_is_legal():
    assert is_legal(97, 193, 3, 2)


@pytest.mark.parametrize(
    ("arguments", "pad"),
    [
        ((4, 8, 3, 2), 0),  # the mirror image of PyTorch's padding=1, output_padding=1
        ((4, 7, 3, 2), 1),
        ((4, 8, 2, 2), 0),
        ((4, 8, 4, 2), 1),
        ((4, 8, 6, 2), 2),
        ((4, 8, 5, 2), 1),  # 3 to cut off, the odd one at the end
        ((4, 12, 2, 3), 0),  # nothing to cut off
        ((4, 8, 3, 2, 3), 2),
    ],
)
def test_same_padding_cuts_half_before(arguments, pad):
    assert line(*arguments).pad_before == (pad, 0, 0)


def test_valid_padding_cuts_nothing():
    assert line(4, 9, 3, 2, padding="VALID").pad_before == (0, 0, 0)


def test_the_message_of_a_size_says_what_is_legal():
    with pytest.raises(WorkloadError) as caught:
        line(4, 9, 3, 2)
    assert str(caught.value) == (
        "failed to make workload with output_shape=[1, 9, 1, 1, 1] (depth: kernel 3, stride 2, dilation 1, "
        "SAME): an output of 9 needs an input of 5, and the input has 4; "
        "an input of 4 allows outputs from 7 to 8"
    )


@pytest.mark.parametrize("pad", [0, 1, 3])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_explicit_padding_allows_what_pytorch_and_onnx_allow(size, kernel, stride, dilation, pad):
    most = (size - 1) * stride + (kernel - 1) * dilation + max(stride, dilation) - pad
    padding = [pad, 0, 0]
    found = [o for o in range(1, 60) if is_legal(size, o, kernel, stride, dilation, padding)]
    assert found == list(range(1, most + 1))


def test_explicit_padding_is_held_as_plain_ints():
    workload = line(4, 8, 3, 2, padding=np.array([1, 0, 0]))
    assert workload.padding == workload.pad_before == (1, 0, 0)
    assert all(type(pad) is int for pad in workload.padding)


@pytest.mark.parametrize(
    ("arguments", "pad", "held"),
    [
        ((4, 9, 3, 2), 0, "VALID"),
        ((4, 10, 3, 2), 0, "VALID"),  # a zero follows
        ((4, 8, 2, 2), 0, "VALID"),  # both names would do
        ((4, 8, 3, 2), 0, "SAME"),
        ((4, 7, 3, 2), 1, "SAME"),
        ((4, 8, 5, 2), 1, "SAME"),
        ((4, 8, 3, 2), 1, (1, 0, 0)),  # PyTorch's padding=1, output_padding=1
        ((4, 6, 3, 2), 0, (0, 0, 0)),  # fewer than SAME allows
        ((4, 6, 3, 2), 1, (1, 0, 0)),
        ((4, 11, 3, 2, 3), 2, (2, 0, 0)),
        ((4, 15, 3, 2, 3), 0, (0, 0, 0)),  # more zeros than VALID allows
    ],
)
def test_explicit_padding_that_has_a_name_is_held_by_it(arguments, pad, held):
    assert line(*arguments, padding=[pad, 0, 0]).padding == held


def test_padding_is_explicit_where_one_axis_has_another_name():
    shapes = [1, 4, 4, 4, 1], [3, 3, 1, 1, 1]
    for output, held in (([7, 7, 4], "SAME"), ([7, 9, 4], (1, 0, 0))):
        pads = [1, 1 if held == "SAME" else 0, 0]
        workload = Workload.make(*shapes, [1, *output, 1], [2, 2, 1], pads)
        assert workload.padding == held


def test_the_names_stay_as_they_are_written():
    assert [line(4, 8, 2, 2, padding=name).padding for name in PADDINGS] == list(PADDINGS)


def test_the_message_of_an_explicit_padding_says_what_is_legal():
    with pytest.raises(WorkloadError) as caught:
        line(4, 10, 3, 2, padding=[1, 0, 0])
    assert str(caught.value) == (
        "failed to make workload with output_shape=[1, 10, 1, 1, 1] (depth: kernel 3, stride 2, dilation 1, "
        "padding 1): an input of 4 reaches 9 positions, of which this padding leaves 8, and fewer zeros may follow "
        "than the larger of stride and dilation; an input of 4 allows outputs from 1 to 9"
    )


def test_a_padding_that_leaves_no_output_is_refused():
    with pytest.raises(WorkloadError, match=r"leaves 0, .*; make the padding smaller"):
        line(4, 1, 3, 2, padding=[10, 0, 0])


def test_an_output_that_ends_farther_than_can_be_counted_is_refused():
    most = 2**31 - 1
    with pytest.raises(WorkloadError, match="its taps reach over 2147483648 positions"):
        line(1, most - 1, 3, most, padding=[2, 0, 0])


def test_taps_that_reach_farther_than_can_be_counted_are_refused():
    with pytest.raises(WorkloadError, match=r"depth: .*its taps reach over 2147483654 positions"):
        line(4, 8, 2, 2, dilation=2**31 - 1)


def test_a_tensor_of_more_bytes_than_can_be_counted_is_refused():
    huge = 2**31 - 1
    with pytest.raises(WorkloadError, match=r"input=.*fewer than 2\*\*63"):
        Workload.make([1, huge, huge, 1, 1], [1] * 5, [1, huge, huge, 1, 1], 1)
