"""Tensor intrinsics: what vectors can do and loops over scalars cannot say.

Each is described by loops, which say what it computes, and implemented by operations on whole vectors of any
length that is a power of two; LLVM finds the instructions. Registered when a schedule that uses one is made.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm import s_tir, tirx
from tvm.script import tirx as T
from tvm.script.ir_builder import tirx as builder

from tvm_conv3dt.compiler.descriptions import argument, described, implemented, loops
from tvm_conv3dt.compiler.turning import transposed

__all__ = ["lane_sums", "turned_pairs", "woven"]


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


@cache
def woven(lanes: int, count: int) -> str:
    """Return the name of the intrinsic that makes one run of the lanes of `count` vectors of float32, two or more.

    ``woven[j, i] = vectors[i, j]``
    """
    shapes = (count, lanes), (lanes, count)

    def arguments() -> tuple[Any, Any]:
        vectors, run = (
            argument(name, shape, "float32", "local")
            for name, shape in zip(("vectors", "run"), shapes, strict=True)
        )
        return vectors, run

    with described() as description:
        vectors, run = arguments()
        with loops(run, [vectors], shapes[1], "SS") as (j, i):
            builder.buffer_store(run, vectors[i, j], [j, i])
    with described() as implementation:
        vectors, run = arguments()
        with implemented(run, [vectors]):
            loaded = [vectors.vload([i, 0], f"float32x{lanes}") for i in range(count)]
            for part in range(count):
                numbers = range(part * lanes, (part + 1) * lanes)
                taken = [number % count * lanes + number // count for number in numbers]
                first, rest = divmod(part * lanes, count)
                place = [first, tirx.Ramp(rest, 1, lanes)]
                builder.buffer_store(run, tirx.Shuffle(loaded, taken), place)
    name = f"conv3d_transpose.woven.{count}x{lanes}"
    s_tir.TensorIntrin.register(name, description.get(), implementation.get(), override=True)
    return name


@cache
def turned_pairs(pairs: int, positions: int, dtype: str) -> str:
    """Return the name of the intrinsic that turns pairs of 16-bit numbers, of which each of `positions` has so many.

    ``turned[k, v, e] = square[v, k * 2 + e]``
    """

    def arguments() -> tuple[Any, Any]:
        square = argument("square", (positions, 2 * pairs), dtype, "local")
        return square, argument("turned", (pairs, positions, 2), dtype, "global")

    with described() as description:
        square, turned = arguments()
        with loops(turned, [square], (pairs, positions, 2), "SSS") as (k, v, e):
            builder.buffer_store(turned, square[v, k * 2 + e], [k, v, e])
    with described() as implementation:
        square, turned = arguments()
        with implemented(turned, [square]):
            numbers = [square.vload([v, 0], f"{dtype}x{2 * pairs}") for v in range(positions)]
            rows = [builder.bind(tirx.reinterpret(f"uint32x{pairs}", each)) for each in numbers]
            for k, row in enumerate(transposed(rows, pairs, builder.bind)):
                value = tirx.reinterpret(f"{dtype}x{2 * positions}", row)
                builder.buffer_store(turned, value, [k, 0, tirx.Ramp(0, 1, 2 * positions)])
    name = f"conv3d_transpose.turned_pairs.{pairs}x{positions}.{dtype}"
    s_tir.TensorIntrin.register(name, description.get(), implementation.get(), override=True)
    return name
