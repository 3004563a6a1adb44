"""The peak of multiply-adds: a kernel that does nothing else, in registers, on all threads.

Each thread keeps a tile of accumulators, and multiplies and adds them over and over, each on its own: nothing waits for
memory, and there are more of them than multiply-adds under way in any core's units. No kernel of the
same type and vectors can be faster, so it is what the arithmetic of kernels is measured by.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as builder

from tvm_conv3dt.compiler.target import target_of
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import CompileError, UnsupportedError, describe
from tvm_conv3dt.spec import DTYPES
from tvm_conv3dt.threads import pool_arguments

__all__ = ["STEPS", "SYMBOL", "accumulators", "compile_peak", "define_peak", "load", "operations"]

SYMBOL = "peak"

STEPS = 1 << 18
"""Multiply-adds on each accumulator: a millisecond of a fast core's time, where threads take microseconds to wake."""

# x + x * -2 == -x: whatever an accumulator holds, it stays as large as it is, never denormal nor infinite, which
# some CPUs take longer for.
_FACTOR = -2.0


def accumulators(device: Device) -> int:
    """Return how many vectors a thread's tile has.

    Three quarters of the registers: 12 of 16 hide a latency of 5 cycles behind 2 units, and leave room for the
    factor, and for products where there is no fused instruction.
    """
    return device.vector_registers * 3 // 4


def operations(device: Device) -> int:
    """Return the operations of each thread in one call, 2 per multiply-add."""
    return 2 * accumulators(device) * device.lanes(DTYPES["float32"]) * STEPS


def define_peak(device: Device) -> tirx.PrimFunc:
    """Return ``peak(state, factor)`` for the vectors of a device.

    ``state`` is float32 ``[threads, accumulators x lanes]``, each of which becomes ``x + x * factor`` in every step;
    ``factor`` is ``[lanes]``. Both come from memory, before the loop: nothing is known when the kernel is compiled.
    In this form the sum replaces one of its operands, as multiply-adds of all architectures can; in
    others some need a copy beside.
    """
    lanes, tile = device.lanes(DTYPES["float32"]), range(accumulators(device))
    threads, size = tirx.Var("threads", "int32"), len(tile) * lanes
    # As for any array of a caller: see `arguments`.
    argument = partial(tirx.decl_buffer, dtype="float32", data_alignment=4)
    with IRBuilder() as found:
        with builder.prim_func():
            builder.func_name(SYMBOL)
            builder.func_attr({"global_symbol": SYMBOL, "tirx.noalias": True})
            state = builder.arg("state", argument((threads, size), name="state"))
            factor = builder.arg("factor", argument((lanes,), name="factor"))
            with builder.parallel(threads) as thread:
                # Every index is a constant, which is what lets LLVM keep it all in registers.
                kept = builder.alloc_buffer((size,), "float32", scope="local")
                vectors = [tirx.Ramp(place * lanes, 1, lanes) for place in tile]
                for vector in vectors:
                    builder.buffer_store(kept, state[thread, vector], [vector])
                with builder.serial(STEPS):
                    for vector in vectors:
                        value = kept[vector] + kept[vector] * factor[tirx.Ramp(0, 1, lanes)]
                        builder.buffer_store(kept, value, [vector])
                for vector in vectors:
                    builder.buffer_store(state, kept[vector], [thread, vector])
    return found.get()


def compile_peak(device: Device) -> Any:
    """Return TVM's module with the function `SYMBOL` for `device`.

    Raises
    ------
    CompileError
        If TVM does not take it.
    UnsupportedError
        If the device is a GPU: `tvm_conv3dt.compiler.gpu_peak` is for those.
    """
    if device.kind != "llvm":
        rule = "it is of kind cuda, and this peak is a CPU's"
        raise UnsupportedError(describe("compile", "peak of multiply-adds", device.name, rule))
    target = target_of(device)
    try:
        return tvm.compile(tvm.IRModule({SYMBOL: define_peak(device)}), target=target)
    except (ValueError, RuntimeError, TypeError) as error:
        rule = str(error).strip().splitlines()[-1]
        raise CompileError(
            describe("compile", "peak of multiply-adds", device.name, rule)
        ) from error


def load(device: Device, threads: int) -> tuple[Callable[[], object], int]:
    """Compile the kernel and set the calling thread's pool; it runs in this thread then.

    Parameters
    ----------
    device : Device
        This machine.
    threads : int
        How many multiply and add.

    Returns
    -------
    tuple of (callable, int)
        Something to time, and the operations of one call.

    Raises
    ------
    CompileError, UnsupportedError
        As `compile_peak`.
    """
    lanes = device.lanes(DTYPES["float32"])
    run = compile_peak(device)[SYMBOL]
    start = np.random.default_rng(0).random((threads, accumulators(device) * lanes), np.float32)
    state = tvm.runtime.tensor(start)
    factor = tvm.runtime.tensor(np.full(lanes, _FACTOR, np.float32))
    tvm.get_global_func("runtime.config_threadpool")(*pool_arguments(threads, size=threads))
    return (lambda: run(state, factor)), threads * operations(device)
