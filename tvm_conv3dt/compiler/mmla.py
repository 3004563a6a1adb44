"""Tensor intrinsics for aarch64's products of blocks of bfloat16, added in float32: the instruction BFMMLA.

A block is 2 rows of 4 numbers of bfloat16, one vector of 128 bits; sums are 2 rows of 2 in another::

    sums[i, e] += sum over k of a[i, k] * b[e, k]

16 products, where an instruction for pairs (`tvm_conv3dt.compiler.pair_products`) has 8. The instruction takes numbers below the normal
ones of float32 for zero, and rounds sums as aarch64's for pairs does, to odd: docs/precision.md says what that means.

Each intrinsic is described by loops, which can stand for it: the same schedule, the same packing. The instruction is an imported
function, since TVM's code generator has no type for bfloat16.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import tvm_ffi
from tvm import ir, s_tir, tirx
from tvm.script.ir_builder import tirx as builder

from tvm_conv3dt.compiler.descriptions import argument, described, implemented, loops
from tvm_conv3dt.compiler.elements import STORED_BFLOAT16, widen
from tvm_conv3dt.device import Device

__all__ = [
    "BLOCK",
    "DEPTH",
    "MmlaIntrinsics",
    "import_products",
    "mmla_intrinsics",
    "multiplies_blocks",
]

BLOCK = 2
"""Rows of a block, and rows and columns of its sums."""

DEPTH = 4
"""Numbers of a row of a block."""

_FEATURE = "bf16"
_LANES = BLOCK * BLOCK
_FUNCTION = "conv3d_transpose_mmla"
# The numbers of a block come as integers, which TVM takes them for.
_CODE = f"""
    declare <4 x float> @llvm.aarch64.neon.bfmmla(<4 x float>, <8 x bfloat>, <8 x bfloat>)
    define <4 x float> @{_FUNCTION}(<4 x float> %sums, <8 x i16> %a, <8 x i16> %b) {{
      %left = bitcast <8 x i16> %a to <8 x bfloat>
      %right = bitcast <8 x i16> %b to <8 x bfloat>
      %result = call <4 x float> @llvm.aarch64.neon.bfmmla(<4 x float> %sums, <8 x bfloat> %left, <8 x bfloat> %right)
      ret <4 x float> %result
    }}
"""


class MmlaIntrinsics(NamedTuple):
    """Names of the intrinsics.

    Attributes
    ----------
    multiply : str
        Adds the products of two blocks to their sums.
    unpack : str
        Makes rows of two sums that stand side by side.
    """

    multiply: str
    unpack: str


def multiplies_blocks(device: Device) -> bool:
    """Whether a device has the instruction."""
    return device.arch == "aarch64" and _FEATURE in device.cpu_features


@cache
def mmla_intrinsics(scalar: bool = False) -> MmlaIntrinsics:
    """Return the names of the intrinsics, which are registered now.

    Parameters
    ----------
    scalar : bool
        Whether they are to be loops, for machines without the instruction.
    """
    made = {"multiply": (_multiply, _multiply_blocks), "unpack": (_unpack, _unpack_blocks)}
    kind = "scalar" if scalar else "bf16"
    names = {each: f"conv3d_transpose.mmla_{each}.{kind}" for each in made}
    for each, (describe, implement) in made.items():
        description = describe()
        implementation = description if scalar else implement()
        s_tir.TensorIntrin.register(names[each], description, implementation, override=True)
    return MmlaIntrinsics(**names)


def import_products(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Give a function that multiplies blocks the imported one that does it."""
    called = False

    def visit(call: ir.Call) -> None:
        nonlocal called
        name = call.args[0] if call.args else None
        called = called or (isinstance(name, ir.StringImm) and name.value == _FUNCTION)

    tvm_ffi.structural_walk(function.body, (ir.Call, visit))
    if not called:
        return function
    none = tirx.const(0, "int32")
    body = tirx.AttrStmt(none, "pragma_import_llvm", ir.StringImm(_CODE), function.body)
    return tirx.PrimFunc(function.params, body, function.ret_type, function.attrs)


def _operands() -> tuple[Any, Any, Any]:
    left, right = (argument(name, (BLOCK, DEPTH), STORED_BFLOAT16, "global") for name in "ab")
    return left, right, argument("c", (BLOCK, BLOCK), "float32", "local")


def _multiply() -> Any:
    with described() as found:
        left, right, sums = _operands()
        with loops(sums, [sums, left, right], (BLOCK, BLOCK, DEPTH), "SSR") as (i, e, k):
            a, b = (widen(each, STORED_BFLOAT16) for each in (left[i, k], right[e, k]))
            builder.buffer_store(sums, sums[i, e] + a * b, [i, e])
    return found.get()


def _multiply_blocks() -> Any:
    with described() as found:
        left, right, sums = _operands()
        with implemented(sums, [sums, left, right]):
            a, b = (each.vload([0, 0], f"{STORED_BFLOAT16}x8") for each in (left, right))
            before = sums.vload([0, 0], f"float32x{_LANES}")
            after = tirx.call_pure_extern(f"float32x{_LANES}", _FUNCTION, before, a, b)
            builder.buffer_store(sums, after, [0, tirx.Ramp(0, 1, _LANES)])
    return found.get()


def _unpacked() -> tuple[Any, Any]:
    sums, rows = (argument(name, (BLOCK, BLOCK, BLOCK), "float32", "local") for name in "cr")
    return sums, rows


def _unpack() -> Any:
    """Describe ``rows[i, half, e] = sums[half, i, e]``."""
    with described() as found:
        sums, rows = _unpacked()
        with loops(rows, [sums], (BLOCK,) * 3, "SSS") as (i, half, e):
            builder.buffer_store(rows, sums[half, i, e], [i, half, e])
    return found.get()


def _unpack_blocks() -> Any:
    with described() as found:
        sums, rows = _unpacked()
        with implemented(rows, [sums]):
            blocks = [sums.vload([half, 0, 0], f"float32x{_LANES}") for half in range(BLOCK)]
            for i in range(BLOCK):
                lanes = [
                    half * _LANES + i * BLOCK + e for half in range(BLOCK) for e in range(BLOCK)
                ]
                place = [i, 0, tirx.Ramp(0, 1, _LANES)]
                builder.buffer_store(rows, tirx.Shuffle(blocks, lanes), place)
    return found.get()
