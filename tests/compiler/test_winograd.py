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


@pytest.mark.parametrize("results", [1, 2])
@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_results_are_sums_over_taps(axis, results):
    filtering = Filtering(axis, results)
    for phase in range(axis.phases):
        taps = axis.phase_taps(phase)
        if results > 1 and taps > 3:
            continue
        points = filtering.points_of(phase)
        inputs = matrix(filtering.input_forms(phase), points)
        sums = matrix(filtering.tap_forms(phase), taps)
        back = matrix(filtering.result_forms(phase), points)
        assert len(inputs) == len(sums) == points <= filtering.points
        # The bilinear form, by result, input and tap: 1 where the tap of the result is of the input.
        found = np.einsum("mp,pi,pj->mij", back, inputs, sums)
        expected = np.zeros_like(found)
        for m, j in product(range(results), range(taps)):
            expected[m, m + j, j] = 1
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_tap_of_the_first_input_is_the_last_of_the_phase(axis):
    filtering = Filtering(axis, 1)
    for phase in range(axis.phases):
        tap, position = filtering.first_tap(phase), filtering.first_input(phase)
        assert phase + axis.pad == axis.stride * position + tap
        assert 0 <= tap < axis.kernel <= tap + axis.tap_step


@pytest.mark.parametrize(
    ("kernel", "stride", "size", "results"),
    [
        (1, 1, 8, 1),  # one product for a result, whichever way
        (2, 2, 8, 1),
        (2, 1, 8, 2),
        (3, 1, 8, 2),
        (3, 2, 8, 2),
        (6, 2, 8, 2),
        (4, 1, 8, 1),  # more taps than it takes
        (8, 2, 8, 1),
        (2, 1, 1, 1),  # the second result does not exist
        (2, 1, 3, 1),
        (3, 1, 3, 2),
    ],
)
def test_two_results_are_made_together_where_that_saves_products(kernel, stride, size, results):
    assert Filtering.of(Axis(size, size * stride, kernel, stride, 1, 0)).results == results
