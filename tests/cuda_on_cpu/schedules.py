"""Small scheduled functions to try the harness on: products of matrices, and a gather."""

from __future__ import annotations

from tvm import te
from tvm.s_tir import Schedule

from tvm_conv3dt.compiler.fragments import fragments

SIZE = 64
_TILE = 32


def _product(dtype: str, result: str) -> tuple[list[te.Tensor], te.Tensor]:
    a = te.placeholder((SIZE, SIZE), dtype, "A")
    b = te.placeholder((SIZE, SIZE), dtype, "B")
    k = te.reduce_axis((0, SIZE), "k")
    terms = lambda i, j: a[i, k].astype("float32") * b[k, j].astype("float32")
    c = te.compute((SIZE, SIZE), lambda i, j: te.sum(terms(i, j), axis=k), "C")
    if result == "float32":
        return [a, b, c], c
    return [a, b, te.compute(c.shape, lambda i, j: c[i, j].astype(result), "D")], c


def _copy_together(schedule: Schedule, block: object, threads: list[int], lanes: int) -> None:
    """Let all threads copy the tile of a block, in vectors."""
    fused = schedule.fuse(*schedule.get_loops(block)[-2:])
    *parts, vector = schedule.split(fused, [None, *threads, lanes])
    for part, axis in zip(parts[:0:-1], "xyz", strict=False):
        schedule.bind(part, f"threadIdx.{axis}")
    schedule.vectorize(vector)


def tiled() -> Schedule:
    """Return a float32 product with tiles in shared memory, which are copied in vectors."""
    schedule = Schedule(te.create_prim_func(_product("float32", "float32")[0]))
    block = schedule.get_sblock("C")
    i, j, k = schedule.get_loops(block)
    i0, i1, i2 = schedule.split(i, [None, 8, 4])
    j0, j1, j2 = schedule.split(j, [None, 8, 4])
    k0, k1 = schedule.split(k, [None, 16])
    schedule.reorder(i0, j0, i1, j1, k0, k1, i2, j2)
    schedule.bind(i0, "blockIdx.y")
    schedule.bind(j0, "blockIdx.x")
    thread = schedule.fuse(i1, j1)
    schedule.bind(thread, "threadIdx.x")
    local = schedule.cache_write(block, 0, "local")
    schedule.reverse_compute_at(local, thread)
    schedule.vectorize(schedule.get_loops(local)[-1])
    for index in (0, 1):
        copy = schedule.cache_read(block, index, "shared")
        schedule.compute_at(copy, k0)
        _copy_together(schedule, copy, [64], 4)
    schedule.unroll(i2)
    schedule.unroll(j2)
    schedule.decompose_reduction(block, k0)
    return schedule


def tensor_cores(result: str = "float32") -> Schedule:
    """Return a product of float16 by fragments of 16x16x16, with sums in float32."""
    schedule = Schedule(te.create_prim_func(_product("float16", result)[0]))
    block = schedule.get_sblock("C")
    i, j, k = schedule.get_loops(block)
    i0, i1, i2 = schedule.split(i, [None, 2, 16])
    j0, j1, j2 = schedule.split(j, [None, 2, 16])
    k0, k1, k2 = schedule.split(k, [None, 2, 16])
    schedule.reorder(i0, j0, i1, j1, k0, k1, i2, j2, k2)
    schedule.bind(i0, "blockIdx.y")
    schedule.bind(j0, "blockIdx.x")
    warp = schedule.fuse(i1, j1)
    schedule.bind(warp, "threadIdx.y")
    shared = schedule.cache_write(block, 0, "shared")
    sums = schedule.cache_write(block, 0, "wmma.accumulator")
    schedule.reverse_compute_at(sums, warp)
    for axis in schedule.get_loops(sums)[-2:]:
        schedule.split(axis, [None, 16])
    rows, row, columns, column = schedule.get_loops(sums)[-4:]
    schedule.reorder(rows, columns, row, column)
    last = shared
    if result != "float32":
        schedule.compute_inline(shared)
        last = schedule.get_sblock("D")
    schedule.reverse_compute_at(last, j0)
    _copy_together(schedule, last, [4, 32], 4)
    names = fragments()
    for index, (scope, intrinsic) in enumerate(zip("ab", names[:2], strict=True)):
        copy = schedule.cache_read(block, index, "shared")
        schedule.compute_at(copy, k0)
        _copy_together(schedule, copy, [4, 32], 8)
        fragment = schedule.cache_read(block, index, f"wmma.matrix_{scope}")
        schedule.compute_at(fragment, k1)
        schedule.tensorize(schedule.get_loops(fragment)[-2], intrinsic)
    first = schedule.decompose_reduction(block, k0)
    schedule.tensorize(schedule.get_loops(first)[-2], names.fill)
    schedule.tensorize(i2, names.multiply)
    schedule.tensorize(row, names.store)
    return schedule


def split_sum() -> Schedule:
    """Return a float32 product in two kernels, with parts of the sums in memory between them."""
    schedule = Schedule(te.create_prim_func(_product("float32", "float32")[0]))
    _, _, k = schedule.get_loops(schedule.get_sblock("C"))
    part, _ = schedule.split(k, [4, None])
    for block in (schedule.rfactor(part, 0), schedule.get_sblock("C")):
        fused = schedule.fuse(*schedule.get_loops(block)[:2])
        grid, thread = schedule.split(fused, [None, _TILE])
        schedule.bind(grid, "blockIdx.x")
        schedule.bind(thread, "threadIdx.x")
    return schedule


def elementwise(dtype: str, lanes: int = 1) -> Schedule:
    """Return twice the element before, zero before the first one."""
    x = te.placeholder((SIZE * 4,), dtype, "X")
    y = te.compute(
        x.shape,
        lambda i: te.if_then_else(i >= 1, x[i - 1], te.const(0, dtype)) * te.const(2, dtype),
        "Y",
    )
    schedule = Schedule(te.create_prim_func([x, y]))
    [loop] = schedule.get_loops(schedule.get_sblock("Y"))
    grid, thread, vector = schedule.split(loop, [None, 8, lanes])
    schedule.bind(grid, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    if lanes > 1:
        schedule.vectorize(vector)
    return schedule


def in_a_loop() -> Schedule:
    """Return a copy whose host code launches a kernel for every row."""
    x = te.placeholder((SIZE, SIZE), "float32", "X")
    y = te.compute(x.shape, lambda i, j: x[i, j], "Y")
    schedule = Schedule(te.create_prim_func([x, y]))
    _, column = schedule.get_loops(schedule.get_sblock("Y"))
    schedule.bind(column, "threadIdx.x")
    return schedule
