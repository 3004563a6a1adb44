"""Do taps, as expressions, read where the arithmetic of an axis says?"""

import pytest

pytest.importorskip("tvm")

import tvm_ffi
from tvm import sym, tirx

from tvm_conv3dt.compiler.taps import inside, less, tap_of
from tvm_conv3dt.phases import Axis

AXES = {
    "kernel equals stride": Axis(4, 8, 2, 2, 1, 0),
    "kernel below stride": Axis(3, 12, 2, 4, 1, 1),
    "kernel above stride": Axis(4, 8, 5, 2, 1, 1),
    "no stride": Axis(5, 5, 4, 1, 1, 1),
    "whole strides cut off": Axis(4, 9, 9, 3, 1, 3),
    "dilation": Axis(6, 6, 3, 1, 3, 3),
    "dilation prime to stride": Axis(5, 10, 4, 2, 3, 3),
    "dilation and stride share": Axis(5, 20, 3, 4, 6, 4),
    "dilation is stride": Axis(4, 12, 4, 3, 3, 4),
    "output below stride": Axis(1, 2, 3, 4, 1, 0),
}


def value(expression, variables):
    def substitute(each):
        return next(v for variable, v in variables if variable.same_as(each))

    expression = tvm_ffi.structural_map(
        tirx.Add(tirx.const(0, "int32"), tirx.Cast("int32", expression)), [(tirx.Var, substitute)]
    )
    return int(sym.Analyzer().simplify(expression))


@pytest.mark.parametrize("name", AXES)
def test_taps_are_those_of_the_definition(name):
    """Every pair of input and tap of ``o + pad == stride * i + dilation * t``, and no other."""
    axis = AXES[name]
    q, r, j = (tirx.Var(each, "int32") for each in "qrj")
    tap = tap_of(axis, q, r, j)
    for output in range(axis.output):
        found = []
        for turn in range(axis.taps):
            at = [
                (variable, tirx.const(each, "int32"))
                for variable, each in zip(
                    (q, r, j), (*divmod(output, axis.stride), turn), strict=True
                )
            ]
            if all(value(condition, at) for condition in tap.present):
                found.append((value(tap.input, at), value(tap.number, at)))
        expected = [
            ((output + axis.pad - axis.dilation * t) // axis.stride, t)
            for t in range(axis.kernel)
            if (output + axis.pad - axis.dilation * t) % axis.stride == 0
        ]
        assert sorted(found, key=lambda pair: pair[1]) == expected


@pytest.mark.parametrize("name", ["kernel equals stride", "no stride", "dilation"])
def test_taps_that_every_phase_has_need_no_condition(name):
    q, r, j = (tirx.Var(each, "int32") for each in "qrj")
    assert tap_of(AXES[name], q, r, j).present == []


@pytest.mark.parametrize(
    ("leaves", "expected"),
    [
        ((False, False), [True] * 9),
        ((True, False), [False, False, *[True] * 7]),
        ((False, True), [*[True] * 6, False, False, False]),
        ((True, True), [False, False, True, True, True, True, False, False, False]),
    ],
)
def test_positions_lie_inside_at_the_ends_that_are_asked_for(leaves, expected):
    axis = AXES["kernel equals stride"]
    found = [
        all(value(each, []) for each in inside(axis, tirx.const(position, "int32"), leaves))
        for position in range(-2, 7)
    ]
    assert found == expected


@pytest.mark.parametrize(("left", "right"), [(-3, 0), (0, 0), (0, 1), (7, 7), (8, 7), (-1, -2)])
def test_less_is_a_comparison(left, right):
    found = value(less(tirx.const(left, "int32"), tirx.const(right, "int32")), [])
    assert bool(found) == (left < right)
