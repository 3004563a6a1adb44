"""Tensor intrinsics for fragments of 16x16x16: float16 by rows in shared memory, sums in float32.

They are TVM's own five of that kind; importing TVM's module takes half a minute, since it parses all that there are.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from tvm import s_tir
from tvm.script import tirx as T

__all__ = ["SQUARE", "Fragments", "fragments"]

SQUARE = 16
"""Rows, columns and depth of one product of a tensor core."""


class Fragments(NamedTuple):
    """Names of intrinsics."""

    load_a: str
    load_b: str
    fill: str
    multiply: str
    store: str


@cache
def fragments() -> Fragments:
    """Return the names of the intrinsics, which are registered now."""
    made = {
        "load_a": _copy("float16", "shared", "wmma.matrix_a"),
        "load_b": _copy("float16", "shared", "wmma.matrix_b"),
        "fill": _fill(),
        "multiply": _multiply(),
        "store": _copy("float32", "wmma.accumulator", "shared"),
    }
    names = {each: f"conv3d_transpose.fragment_{each}" for each in made}
    for each, functions in made.items():
        s_tir.TensorIntrin.register(names[each], *functions, override=True)
    return Fragments(**names)


def _number(fragment: Any, stride: Any) -> Any:
    """Return which one of an array of fragments a buffer is."""
    offset = fragment.elem_offset
    return offset // stride // SQUARE * (stride // SQUARE) + offset % stride // SQUARE


def _copy(dtype: str, source: str, to: str) -> tuple[Any, Any]:
    """Return description and implementation of a copy between fragments and shared memory."""

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def description(x: T.handle, y: T.handle) -> None:
        X = T.match_buffer(x, (16, 16), dtype, align=64, offset_factor=16, scope=source)
        Y = T.match_buffer(y, (16, 16), dtype, align=64, offset_factor=16, scope=to)
        with T.sblock("root"):
            T.reads(X[0:16, 0:16])
            T.writes(Y[0:16, 0:16])
            for i, j in T.grid(16, 16):
                with T.sblock("copy"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    Y[vi, vj] = X[vi, vj]

    def instruction(x: Any, x_stride: Any, y: Any, y_stride: Any) -> Any:
        if to == "shared":
            memory = y.access_ptr("w", ptr_type=dtype)
            of = x.data, 16, 16, 16, _number(x, x_stride)
            return T.tvm_store_matrix_sync(*of, memory, y_stride, "row_major", dtype="void")
        memory = x.access_ptr("r", ptr_type=dtype)
        of = y.data, 16, 16, 16, _number(y, y_stride)
        return T.tvm_load_matrix_sync(*of, memory, x_stride, "row_major", dtype="void")

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def implementation(x: T.handle, y: T.handle) -> None:
        x1 = T.int32()
        x0 = T.int32()
        y1 = T.int32()
        y0 = T.int32()
        X = T.match_buffer(
            x, (16, 16), dtype, align=64, offset_factor=16, scope=source, strides=[x1, x0]
        )
        Y = T.match_buffer(
            y, (16, 16), dtype, align=64, offset_factor=16, scope=to, strides=[y1, y0]
        )
        with T.sblock("root"):
            T.reads(X[0:16, 0:16])
            T.writes(Y[0:16, 0:16])
            T.evaluate(instruction(X, x1, Y, y1))

    return description, implementation


def _fill() -> tuple[Any, Any]:
    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def description(c: T.handle) -> None:
        C = T.match_buffer(
            c, (16, 16), "float32", align=64, offset_factor=16, scope="wmma.accumulator"
        )
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:16, 0:16])
            for i, j in T.grid(16, 16):
                with T.sblock("init"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    C[vi, vj] = T.float32(0)

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def implementation(c: T.handle) -> None:
        c1 = T.int32()
        c0 = T.int32()
        C = T.match_buffer(
            c,
            (16, 16),
            "float32",
            align=64,
            offset_factor=16,
            scope="wmma.accumulator",
            strides=[c1, c0],
        )
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:16, 0:16])
            T.evaluate(
                T.tvm_fill_fragment(C.data, 16, 16, 16, _number(C, c1), T.float32(0), dtype="void")
            )

    return description, implementation


def _multiply() -> tuple[Any, Any]:
    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(
            a, (16, 16), "float16", align=64, offset_factor=16, scope="wmma.matrix_a"
        )
        B = T.match_buffer(
            b, (16, 16), "float16", align=64, offset_factor=16, scope="wmma.matrix_b"
        )
        C = T.match_buffer(
            c, (16, 16), "float32", align=64, offset_factor=16, scope="wmma.accumulator"
        )
        with T.sblock("root"):
            T.reads(C[0:16, 0:16], A[0:16, 0:16], B[0:16, 0:16])
            T.writes(C[0:16, 0:16])
            for i, j, k in T.grid(16, 16, 16):
                with T.sblock(""):
                    vi, vj, vk = T.axis.remap("SSR", [i, j, k])
                    C[vi, vj] = C[vi, vj] + T.Cast("float32", A[vi, vk]) * T.Cast(
                        "float32", B[vk, vj]
                    )

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        a1 = T.int32()
        a0 = T.int32()
        b1 = T.int32()
        b0 = T.int32()
        c1 = T.int32()
        c0 = T.int32()
        A = T.match_buffer(
            a,
            (16, 16),
            "float16",
            align=64,
            offset_factor=16,
            scope="wmma.matrix_a",
            strides=[a1, a0],
        )
        B = T.match_buffer(
            b,
            (16, 16),
            "float16",
            align=64,
            offset_factor=16,
            scope="wmma.matrix_b",
            strides=[b1, b0],
        )
        C = T.match_buffer(
            c,
            (16, 16),
            "float32",
            align=64,
            offset_factor=16,
            scope="wmma.accumulator",
            strides=[c1, c0],
        )
        with T.sblock("root"):
            T.reads(C[0:16, 0:16], A[0:16, 0:16], B[0:16, 0:16])
            T.writes(C[0:16, 0:16])
            T.evaluate(
                T.tvm_mma_sync(
                    C.data,
                    _number(C, c1),
                    A.data,
                    _number(A, a1),
                    B.data,
                    _number(B, b1),
                    C.data,
                    _number(C, c1),
                    dtype="void",
                )
            )

    return description, implementation
