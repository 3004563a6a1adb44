"""A float32 as the sum of three numbers of bfloat16, and which of their products make up a product of float32.

A float32 has 24 bits and a bfloat16 8. The first piece is the number rounded to bfloat16, the second what is left, rounded, and the
third the rest: their sum is the number itself, where none is below ``2**-126``, the least that matrix units do not take for zero.

Of the nine products of two numbers' pieces six are made. Those that are not are off the product by less than ``2**-23`` of it, two
units of float32's roundoff; and by nothing where the product has no more than 24 bits, as then one of its factors has pieces of zero.

The other five are the *corrections*, ``2**-7`` of the first pieces' product at most. They are right for finite numbers only:
`tvm_conv3dt.compiler.mending` sees to the others. All six are added to the same sums, `tvm_conv3dt.compiler.joining` tells why that is
as exact as vectors are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm_ffi
from tvm import ir, tirx

from tvm_conv3dt.compiler.elements import STORED_BFLOAT16, narrow, widen

__all__ = ["CORRECTIONS", "PIECES", "piece", "split_number", "split_pieces"]

PIECES = 3
"""Numbers of bfloat16 that make up one of float32."""

CORRECTIONS = ((0, 2), (0, 1), (1, 1), (1, 0), (2, 0))
"""The products of pieces of input and filter besides that of the first ones; neighbours have one in common."""

_PIECE = "conv3d_transpose.piece"
_EXTERN = ir.Op.get("tirx.call_pure_extern")
_LARGEST = 3.3895313892515355e38  # of bfloat16


def piece(value: Any, number: Any, cast: bool) -> Any:
    """Return piece `number` of a float32, as compiled code takes a bfloat16; `cast` as that of `narrow`.

    It is a call, which `split_pieces` replaces: each step of what it stands for uses the one before several times, and a search
    that looks at all terms would not come to an end.
    """
    return tirx.call_pure_extern(STORED_BFLOAT16, _PIECE, value, number, int(cast))


def split_number(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return what a `function` makes of the float32 that a value is a piece of, and zero where the value is, under conditions."""
    if value.op.same_as(_EXTERN):
        return function(value.args[1])
    condition, piece, _ = value.args
    return tirx.if_then_else(condition, split_number(piece, function), 0)


def split_pieces(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Replace the pieces in a function, whose loops are no vectors yet, by what they are."""

    def visit(call: ir.Call) -> Any:
        if not call.op.same_as(_EXTERN) or call.args[0] != _PIECE:
            return call
        _, value, number, cast = call.args
        return _piece(value, number, bool(int(cast)))

    return tvm_ffi.structural_map(function, (ir.Call, visit))


def _piece(value: Any, number: Any, cast: bool) -> Any:
    """Return a piece; infinities and NaN are their own first ones."""

    def rounded(each: Any) -> Any:
        return narrow(each, STORED_BFLOAT16, cast=cast)

    def rest(each: Any, of: Any) -> Any:
        return of - widen(each, STORED_BFLOAT16)

    # Rounding to nearest would make an infinity of what is above the largest number.
    largest = tirx.const(_LARGEST, "float32")
    whole, left = tirx.Var("whole", "float32"), tirx.Var("left", "float32")
    first, second = (tirx.Var(name, STORED_BFLOAT16) for name in ("first", "second"))
    bounded = tirx.max(tirx.min(whole, largest), -largest)
    steps = (
        (whole, value),
        (first, rounded(tirx.Select(_is_finite(whole), bounded, whole))),
        (left, rest(first, whole)),
        (second, rounded(left)),
    )
    third = rounded(rest(second, left))
    result = tirx.if_then_else(number == 0, first, tirx.if_then_else(number == 1, second, third))
    for variable, term in reversed(steps):
        result = tirx.Let(variable, term, result)
    return result


def _is_finite(value: Any) -> Any:
    return tirx.abs(value) < tirx.const(float("inf"), "float32")
