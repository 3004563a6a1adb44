"""Do the phases of an axis cover exactly the pairs that the definition names?"""

import itertools

import pytest

from tvm_conv3dt.phases import Axis


def legal_axes() -> list[Axis]:
    """Every small axis by TensorFlow's size rules, VALID and SAME, and smaller ones with explicit padding."""
    axes = []
    for size, kernel, stride, dilation in itertools.product(
        (1, 2, 5), range(1, 6), range(1, 5), range(1, 5)
    ):
        extent = (kernel - 1) * dilation + 1
        for output in range((size - 1) * stride + extent, (size - 1) * stride + extent + stride):
            axes.append(Axis(size, output, kernel, stride, dilation, 0))
        for output in range((size - 1) * stride + 1, size * stride + 1):
            pad = max(0, (size - 1) * stride + extent - output) // 2
            axes.append(Axis(size, output, kernel, stride, dilation, pad))
    for size, kernel, stride, dilation in itertools.product((1, 3), (1, 2, 3), (1, 2, 3), (1, 2)):
        most = (size - 1) * stride + (kernel - 1) * dilation + max(stride, dilation)
        for pad, output in itertools.product(range(most), range(1, most + 1)):
            if output <= most - pad:
                axes.append(Axis(size, output, kernel, stride, dilation, pad))
    return axes


AXES = legal_axes()


def pairs_by_definition(axis: Axis) -> set[tuple[int, int, int]]:
    return {
        (axis.stride * i + axis.dilation * t - axis.pad, i, t)
        for i in range(axis.input)
        for t in range(axis.kernel)
        if 0 <= axis.stride * i + axis.dilation * t - axis.pad < axis.output
    }


def pairs_by_phases(axis: Axis) -> set[tuple[int, int, int]]:
    pairs = set()
    for q, r in itertools.product(range(axis.quotients), range(axis.phases)):
        for j in range(axis.phase_taps(r)):
            o = axis.stride * q + r
            i = q + axis.first_input(r) - j * axis.input_step
            if o < axis.output and 0 <= i < axis.input:
                pairs.add((o, i, axis.skipped + axis.first_tap(r) + j * axis.tap_step))
    return pairs


def test_phases_name_exactly_the_pairs_of_the_definition() -> None:
    for axis in AXES:
        assert pairs_by_phases(axis) == pairs_by_definition(axis), axis


def test_no_phase_has_more_taps_than_taps() -> None:
    for axis in AXES:
        assert max(map(axis.phase_taps, range(axis.phases))) <= axis.taps


def test_uniform_means_that_every_phase_has_every_tap() -> None:
    for axis in AXES:
        counts = {axis.phase_taps(r) for r in range(axis.phases)}
        assert axis.uniform == (counts == {axis.taps}), axis


def test_halo_covers_every_read() -> None:
    for axis in AXES:
        before, after = axis.halo
        for q, r in itertools.product(range(axis.quotients), range(axis.phases)):
            for j in range(axis.phase_taps(r)):
                i = q + axis.first_input(r) - j * axis.input_step
                assert -before <= i < axis.input + after, axis


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_kernel_equal_to_stride_needs_no_halo(stride: int) -> None:
    assert Axis(7, 7 * stride, stride, stride, 1, 0).halo == (0, 0)


def test_a_reduced_axis_names_the_same_pairs() -> None:
    for axis in AXES:
        assert pairs_by_phases(axis.reduced()) == pairs_by_definition(axis), axis


def test_a_reduced_axis_begins_and_ends_with_taps_that_meet() -> None:
    for axis in (each for each in AXES if each.meets and each.input > 1):
        met = [tap for _, _, tap in pairs_by_definition(axis)]
        reduced = axis.reduced()
        assert (reduced.skipped, reduced.skipped + reduced.kernel - 1) == (min(met), max(met)), axis


@pytest.mark.parametrize("dilation", [4, 5, 10**6])
def test_a_dilation_past_the_input_needs_no_zeros_for_taps_that_reach_nothing(dilation) -> None:
    axis = Axis(4, 4, 3, 1, dilation, dilation)
    assert axis.reduced() == Axis(4, 4, 1, 1, 1, 0, skipped=1)
    assert axis.reduced().halo == (0, 0)


def test_a_reduced_axis_reads_the_input() -> None:
    for axis in filter(Axis.meets.fget, AXES):
        first, last = axis.reduced().reads
        assert first < axis.input, axis
        assert last >= 0, axis


def test_a_single_input_position_needs_no_halo_and_one_tap() -> None:
    for axis in AXES:
        if axis.input == 1:
            assert (axis.reduced().halo, axis.reduced().taps) == ((0, 0), 1), axis


def test_pairs_are_those_of_the_definition() -> None:
    for axis in AXES:
        assert axis.pairs == len(pairs_by_definition(axis)), axis


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (Axis(2, 4, 3, 2, 1, 0), True),
        (Axis(1, 1, 2, 2, 4, 2), False),  # inputs land at -2 and 2
        (Axis(2, 3, 2, 2, 10, 5), False),  # at -5, -3, 5 and 7
        (Axis(2, 3, 3, 2, 5, 5), True),  # one at 0
    ],
)
def test_inputs_may_miss_all_outputs(axis, expected):
    assert axis.meets is expected
