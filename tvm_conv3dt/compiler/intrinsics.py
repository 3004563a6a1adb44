"""Tensor intrinsics: what vectors can do and loops over scalars cannot say.

Each is described by loops, which say what it computes, and implemented by operations on whole vectors of any
length that is a power of two; LLVM finds the instructions. Registered when a schedule that uses one is made.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm import s_tir, tirx
from tvm.script import tirx as T

__all__ = ["lane_sums"]


@cache
def lane_sums(lanes: int, count: int, dtype: str = "float32") -> str:
    """Return the name of the intrinsic that sums the lanes of `count` vectors: two or more, up to `lanes`.

    ``sums[i] += sum over j of vectors[i, j]``, by a tree: a step takes two vectors and adds each half of one to its
    other half, leaving both results in one vector. Its last step leaves each sum in its own lane.
    """

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def description(
        vectors: T.Buffer((count, lanes), dtype, offset_factor=1, scope="local"),  # type: ignore[valid-type]
        sums: T.Buffer((count,), dtype, offset_factor=1, scope="local"),  # type: ignore[valid-type]
    ) -> None:
        with T.sblock("root"):
            T.reads(sums[0:count], vectors[0:count, 0:lanes])
            T.writes(sums[0:count])
            for i, j in T.grid(count, lanes):
                with T.sblock("sum"):
                    vi, vj = T.axis.remap("SR", [i, j])
                    sums[vi] = sums[vi] + vectors[vi, vj]

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def implementation(
        vectors: T.Buffer((count, lanes), dtype, offset_factor=1, scope="local"),  # type: ignore[valid-type]
        sums: T.Buffer((count,), dtype, offset_factor=1, scope="local"),  # type: ignore[valid-type]
    ) -> None:
        with T.sblock("root"):
            T.reads(sums[0:count], vectors[0:count, 0:lanes])
            T.writes(sums[0:count])
            sums.vstore(
                [0], sums.vload([0], f"{dtype}x{count}") + _tree(vectors, lanes, count, dtype)
            )

    name = f"conv3d_transpose.lane_sums.{count}.{dtype}x{lanes}"
    s_tir.TensorIntrin.register(name, description, implementation, override=True)
    return name


def _tree(vectors: Any, lanes: int, count: int, dtype: str) -> Any:
    vector = f"{dtype}x{lanes}"
    steps: list[tuple[Any, Any]] = []

    def named(value: Any) -> Any:
        variable = tirx.Var(f"step{len(steps)}", vector)
        steps.append((variable, value))
        return variable

    values = [named(vectors.vload([i, 0], vector)) for i in range(count)]
    values += [tirx.Broadcast(tirx.const(0, dtype), lanes)] * (lanes - count)
    half = lanes // 2
    while half:
        pairs = zip(values[:half], values[half:], strict=True)
        values = [named(_halves_added(a, b, half, lanes)) for a, b in pairs]
        half //= 2
    result = values[0] if count == lanes else tirx.Shuffle([values[0]], list(range(count)))
    for variable, value in reversed(steps):
        result = tirx.Let(variable, value, result)
    return result


def _halves_added(a: Any, b: Any, half: int, lanes: int) -> Any:
    """Add to each lane the one `half` lanes away: of `b` where the lane's number has that bit, of `a` elsewhere."""
    own = [lane + (lanes if lane & half else 0) for lane in range(lanes)]
    other = [(lane ^ half) + (lanes if lane & half else 0) for lane in range(lanes)]
    return tirx.Shuffle([a, b], own) + tirx.Shuffle([a, b], other)
