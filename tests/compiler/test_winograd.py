"""Do sums of products, of sums of inputs and of taps, make the results of a phase?"""

from itertools import product

import numpy as np
import pytest

from tvm_conv3dt.compiler.winograd import Filtering
from tvm_conv3dt.phases import Axis

AXES = {
    f"kernel {k}, stride {s}, {pad} cut off": Axis(9, 9 * s, k, s, 1, pad)
    for k, s in product(range(1, 8), range(1, 4))
    for pad in (0, 1)
    if k >= s + pad
}


def matrix(forms, columns):
    found = np.zeros((len(forms), columns))
    for row, form in enumerate(forms):
        for column, factor in form.items():
            found[row, column] = factor
    return found


@pytest.mark.parametrize("results", [1, 2, 3])
@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_results_are_sums_over_taps(axis, results):
    filtering = Filtering(axis, results)
    for phase in range(axis.phases):
        taps = axis.phase_taps(phase)
        if min(results, taps) > 1 and filtering.points_of(phase) > 4:
            continue
        points = filtering.points_of(phase)
        inputs = matrix(filtering.input_forms(phase), points)
        sums = matrix(filtering.tap_forms(phase), taps)
        if filtering.shares_tap(phase):
            sums = sums.repeat(points, axis=0)
        back = matrix(filtering.result_forms(phase), points)
        assert len(inputs) == len(sums) == points <= filtering.points
        # The bilinear form, by result, input and tap: 1 where the tap of the result is of the input.
        found = np.einsum("mp,pi,pj->mij", back, inputs, sums)
        expected = np.zeros_like(found)
        for m, j in product(range(results), range(taps)):
            expected[m, m + j, j] = 1
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_taps_of_a_phase_lead_to_its_inputs(axis):
    filtering = Filtering(axis, 1)
    for phase in range(axis.phases):
        position = filtering.first_input(phase)
        numbers = filtering.tap_numbers(phase)
        assert len(numbers) == axis.phase_taps(phase)
        for j, tap in enumerate(numbers):
            assert phase + axis.pad == axis.stride * (position + j) + tap
        assert numbers[-1] - axis.tap_step < 0 <= numbers[-1]
        assert numbers[0] < axis.kernel <= numbers[0] + axis.tap_step


def test_filters_are_the_sums_of_all_phases():
    """Of three taps at stride 2 a phase has two, the other one: the same filter for all of its results."""
    filtering = Filtering(Axis(9, 18, 3, 2, 1, 0), 3)
    assert filtering.filters == [{2: 1}, {2: 0.5, 0: 0.5}, {2: 0.5, 0: -0.5}, {0: 1}, {1: 1}]
    assert filtering.first_filters == [0, 4]


@pytest.mark.parametrize(
    ("kernel", "stride", "size", "results"),
    [
        (1, 1, 8, [1]),  # one product for a result, whichever way
        (2, 2, 8, [1]),
        (2, 1, 8, [1, 2]),  # three groups of three have as many products as four of two
        (2, 1, 9, [1, 2, 3]),
        (3, 1, 8, [1, 2]),  # three results of three taps would take thirds
        (3, 2, 8, [1, 2]),
        (3, 2, 12, [1, 2, 3]),
        (6, 2, 8, [1, 2]),
        (4, 1, 8, [1]),
        (8, 2, 8, [1]),
        (2, 1, 1, [1]),  # the second result does not exist
        (2, 1, 3, [1, 3]),
        (3, 1, 3, [1, 2]),
    ],
)
def test_results_are_made_together_where_that_saves_products(kernel, stride, size, results):
    found = Filtering.choices(Axis(size, size * stride, kernel, stride, 1, 0))
    assert [each.results for each in found] == results
