"""Products of pairs of bfloat16, added in float32: two channels in each lane of a vector.

A pair is an int32, its first number in the lower half. A kernel is defined with pairs as it is with numbers, two
products for one::

    sum[v] += lower(a[v]) * lower(b[v]) + upper(a[v]) * upper(b[v])

That is how it is computed where there is nothing better: a half is widened by one operation, a shift or a mask, where a
vector of uint16 takes two, and is loaded by half as many loads. `multiply_pairs` finds such sums when loops have become vectors. Where the
target has an instruction for them, it puts that; the instruction takes numbers below the normal ones of float32 for
zero.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

import tvm
import tvm_ffi
from tvm import ir, sym, tirx
from tvm.target import codegen

from tvm_conv3dt.device import Device

__all__ = ["add_pair", "lower", "multiplies_pairs", "multiply_pairs", "pair", "upper"]

# Names, in the catalogue of devices, of the CPU features with instructions for pairs.
_FEATURES = frozenset({"avx512_bf16", "bf16"})

_HALF = 16
_UPPER = -(1 << _HALF)


class _Half(Enum):
    """How the halves of a pair are taken from it."""

    LOWER = (tirx.LShift, _HALF)
    UPPER = (tirx.BitwiseAnd, _UPPER)


class _Instruction(NamedTuple):
    """An instruction of LLVM's that adds the products of pairs of bfloat16."""

    feature: str
    intrinsic: str

    def function(self, lanes: int) -> str:
        """Return the name of the function that is it."""
        return f"conv3d_transpose_pairs_{self.feature}_{lanes}"

    def code(self, lanes: int) -> str:
        """Return that function, as LLVM's code.

        TVM's code generator has no type for bfloat16; it imports functions and inlines them.
        """
        sums, pairs, halves = f"<{lanes} x float>", f"<{lanes} x i32>", f"<{2 * lanes} x bfloat>"
        return f"""
            declare {sums} @{self.intrinsic}({sums}, {halves}, {halves})
            define {sums} @{self.function(lanes)}({sums} %sum, {pairs} %a, {pairs} %b) {{
              %left = bitcast {pairs} %a to {halves}
              %right = bitcast {pairs} %b to {halves}
              %result = call {sums} @{self.intrinsic}({sums} %sum, {halves} %left, {halves} %right)
              ret {sums} %result
            }}
        """


_INSTRUCTIONS = {
    16: [_Instruction("avx512bf16", "llvm.x86.avx512bf16.dpbf16ps.512")],
    8: [_Instruction("avx512bf16", "llvm.x86.avx512bf16.dpbf16ps.256")],
    4: [
        _Instruction("avx512bf16", "llvm.x86.avx512bf16.dpbf16ps.128"),
        _Instruction("bf16", "llvm.aarch64.neon.bfdot.v4f32.v8bf16"),
    ],
}


def multiplies_pairs(device: Device) -> bool:
    """Whether a device has an instruction for pairs."""
    return not _FEATURES.isdisjoint(device.cpu_features)


def pair(first: Any, second: Any) -> Any:
    """Return two bfloat16, which are uint16, as a pair."""
    return tirx.Cast("int32", first) | (tirx.Cast("int32", second) << _int(_HALF))


def lower(pair: Any) -> Any:
    """Return the first number of a pair as float32."""
    return tirx.reinterpret("float32", pair << _int(_HALF))


def upper(pair: Any) -> Any:
    """Return the second number of a pair as float32."""
    return tirx.reinterpret("float32", pair & _int(_UPPER))


def add_pair(a: Any, b: Any) -> Any:
    """Return the sum of the products of two pairs."""
    return lower(a) * lower(b) + upper(a) * upper(b)


def multiply_pairs(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Rewrite sums of products of pairs, and loads of pairs, in a function whose loops are vectors.

    Sums become the target's instruction where it has one; else one multiply-add after the other.
    """
    target = function.attrs.get("target") if function.attrs else None
    analyzer = sym.Analyzer()
    imported: dict[str, str] = {}

    def store(each: tirx.BufferStore) -> Any:
        total = each.value
        products = _products(total.b) if isinstance(total, tirx.Add) else None
        if products is None:
            return each
        lanes = _lanes(total)
        pairs, instruction = _pairs(products), _instruction(target, lanes)
        if pairs is None or instruction is None:
            value = total.a + products[0] + products[1]
        else:
            name = instruction.function(lanes)
            imported[name] = instruction.code(lanes)
            value = tirx.call_pure_extern(f"float32x{lanes}", name, total.a, *pairs)
        return tirx.BufferStore(each.buffer, value, each.indices)

    def load(each: tirx.BitwiseOr) -> Any:
        return _loaded_at_once(each, analyzer)

    body = tvm_ffi.structural_map(function.body, (tirx.BufferStore, store))
    body = tvm_ffi.structural_map(body, (tirx.BitwiseOr, load))
    for code in imported.values():
        body = tirx.AttrStmt(_int(0), "pragma_import_llvm", ir.StringImm(code), body)
    return tirx.PrimFunc(function.params, body, function.ret_type, function.attrs)


def _instruction(target: Any, lanes: int) -> _Instruction | None:
    """Return what adds products of so many pairs on a target."""
    found = _INSTRUCTIONS.get(lanes, []) if target is not None else []
    return next((i for i in found if codegen.target_has_features(i.feature, target)), None)


def _products(value: Any) -> list[Any] | None:
    """Return the products of lower and of upper halves whose sum a value is."""
    if not isinstance(value, tirx.Add):
        return None
    products = [value.a, value.b]
    for product, kind in zip(products, _Half, strict=True):
        factors = [product.a, product.b] if isinstance(product, tirx.Mul) else []
        if not any(_half(each, kind) is not None for each in factors):
            return None
    return products


def _pairs(products: list[Any]) -> list[Any] | None:
    """Return the two pairs whose halves are multiplied, if all factors are halves."""
    lowers, uppers = (
        [_half(factor, kind) for factor in (product.a, product.b)]
        for product, kind in zip(products, _Half, strict=True)
    )
    both = list(zip(lowers, uppers, strict=True))
    same = all(a is not None and b is not None and tvm_ffi.structural_equal(a, b) for a, b in both)
    return lowers if same else None


def _half(value: Any, kind: _Half) -> Any:
    """Return the pairs of whose halves a value, or a vector of them, is made; None if it is not."""
    if isinstance(value, tirx.Broadcast):
        found = _half(value.value, kind)
        return None if found is None else tirx.Broadcast(found, value.lanes)
    if not (
        isinstance(value, ir.Call) and str(getattr(value.op, "name", "")).endswith("reinterpret")
    ):
        return None
    bits = value.args[0]
    operation, constant = kind.value
    return bits.a if isinstance(bits, operation) and _is(bits.b, constant) else None


def _loaded_at_once(value: Any, analyzer: sym.Analyzer) -> Any:
    """Return a pair in memory, or a vector of those that follow each other, as a load of it; any other value as it is."""
    first, shifted = value.a, value.b
    if not (isinstance(shifted, tirx.LShift) and _is(shifted.b, _HALF)):
        return value
    lanes, places = _lanes(value), []
    for half in (first, shifted.a):
        load = half.value if isinstance(half, tirx.Cast) else None
        if not isinstance(load, ir.TensorLoad) or len(load.indices) != 1:
            return value
        place = load.indices[0]
        if lanes > 1:
            if not (isinstance(place, tirx.Ramp) and _is(place.stride, 2)):
                return value
            place = place.base
        places.append((load.source, place))
    (buffer, start), (other, after) = places
    if not (buffer.same_as(other) and analyzer.can_prove_equal(after - start, 1)):
        return value
    halves = tirx.BufferLoad(buffer, [tirx.Ramp(start, tirx.const(1, start.ty.dtype), 2 * lanes)])
    return tirx.reinterpret("int32" if lanes == 1 else f"int32x{lanes}", halves)


def _is(value: Any, number: int) -> bool:
    """Whether a value, or each of a vector, is a number."""
    scalar = value.value if isinstance(value, tirx.Broadcast) else value
    return isinstance(scalar, tirx.IntImm) and int(scalar) == number


def _lanes(value: Any) -> int:
    return int(tvm.DataType(value.ty.dtype).lanes)


def _int(number: int) -> Any:
    return tirx.const(number, "int32")
