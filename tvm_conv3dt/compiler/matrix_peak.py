"""The peak of a CPU's matrix unit: a kernel that does nothing but multiply tiles of bfloat16, on all threads.

As `peak`, for AMX: every thread keeps some tiles of float32 sums and adds the same product of two tiles to each of them, over
and over. Nothing waits for memory, and there are more sums than products under way in the unit, so no kernel that
multiplies by this instruction can be faster.
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

from tvm_conv3dt import tile_state
from tvm_conv3dt.compiler.amx import ROW_BYTES
from tvm_conv3dt.compiler.amx_instructions import instruction
from tvm_conv3dt.compiler.target import target_of
from tvm_conv3dt.compiler.tile_registers import CONFIGURATION_BYTES, configuration
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import CompileError, UnsupportedError, describe
from tvm_conv3dt.threads import pool_arguments

__all__ = [
    "COLUMNS",
    "FEATURE",
    "PAIRS",
    "ROWS",
    "STEPS",
    "SUMS",
    "SYMBOL",
    "compile_matrix_peak",
    "define_matrix_peak",
    "load",
    "operations",
]

SYMBOL = "matrix_peak"

FEATURE = "amx_bf16"
"""Among `Device.cpu_features` where there is such a unit."""

ROWS, COLUMNS, PAIRS = 16, 16, 16
"""Of a tile of sums, and how many pairs of bfloat16 make up one of them: the largest tiles there are."""

SUMS = 6
"""Tiles of sums of each thread, of eight tiles in all: a product takes 52 cycles, and the next may begin after 16."""

STEPS = 1 << 15
"""Products added to each of them: a millisecond of a fast core's time, where threads take microseconds to wake."""

_A, _B = SUMS, SUMS + 1  # the other two tiles


def operations() -> int:
    """Return the operations of each thread in one call, 2 per multiply-add."""
    return 2 * ROWS * COLUMNS * 2 * PAIRS * SUMS * STEPS


def define_matrix_peak() -> tirx.PrimFunc:
    """Return ``matrix_peak(configuration, a, b, sums)``.

    ``sums``, float32 ``[threads, SUMS, ROWS, COLUMNS]``, becomes `STEPS` times the product of ``a`` and ``b``:
    bfloat16 in uint16, ``[ROWS, 2 PAIRS]`` and ``[PAIRS, 2 COLUMNS]``, where a row has the elements of two rows in turns.
    Both come from memory, before the loop. The process must have asked for the registers: see `tile_state`.
    """
    threads = tirx.Var("threads", "int32")
    # As for any array of a caller: see `arguments`.
    argument = partial(tirx.decl_buffer, data_alignment=4)
    with IRBuilder() as found:
        with builder.prim_func():
            builder.func_name(SYMBOL)
            builder.func_attr({"global_symbol": SYMBOL, "tirx.noalias": True})
            size = CONFIGURATION_BYTES
            config = builder.arg("config", argument((size,), "uint8", name="config"))
            a = builder.arg("a", argument((ROWS, 2 * PAIRS), "uint16", name="a"))
            b = builder.arg("b", argument((PAIRS, 2 * COLUMNS), "uint16", name="b"))
            shape = (threads, SUMS, ROWS, COLUMNS)
            sums = builder.arg("sums", argument(shape, "float32", name="sums"))
            with builder.parallel(threads) as thread:
                stride = tirx.const(ROW_BYTES, "int64")
                _emit("ldtilecfg", config.access_ptr("r"))
                for tile, factor in ((_A, a), (_B, b)):
                    _emit("tileloadd64", tile, factor.access_ptr("r"), stride)
                for tile in range(SUMS):
                    _emit("tilezero", tile)
                with builder.serial(STEPS):
                    for tile in range(SUMS):
                        _emit("tdpbf16ps", tile, _A, _B)
                for tile in range(SUMS):
                    place = sums.access_ptr("w", offset=(thread * SUMS + tile) * ROWS * COLUMNS)
                    _emit("tilestored64", tile, place, stride)
                _emit("tilerelease")
    return found.get()


def compile_matrix_peak(device: Device) -> Any:
    """Return TVM's module with the function `SYMBOL` for `device`.

    Raises
    ------
    CompileError
        If TVM does not take it.
    UnsupportedError
        If the device has no `FEATURE`.
    """
    if FEATURE not in device.cpu_features:
        rule = f"it has no {FEATURE}"
        raise UnsupportedError(describe("compile", "peak of the matrix unit", device.name, rule))
    try:
        module = tvm.IRModule({SYMBOL: define_matrix_peak()})
        return tvm.compile(module, target=target_of(device))
    except (ValueError, RuntimeError, TypeError) as error:
        rule = str(error).strip().splitlines()[-1]
        raise CompileError(
            describe("compile", "peak of the matrix unit", device.name, rule)
        ) from error


def load(device: Device, threads: int) -> tuple[Callable[[], object], int]:
    """Compile the kernel, ask for the registers of tiles and set the calling thread's pool; it runs in this thread then.

    Parameters
    ----------
    device : Device
        This machine.
    threads : int
        How many multiply.

    Returns
    -------
    tuple of (callable, int)
        Something to time, and the operations of one call.

    Raises
    ------
    CompileError, UnsupportedError
        As `compile_matrix_peak`.
    PlatformError
        If the system refuses the registers.
    """
    run = compile_matrix_peak(device)[SYMBOL]
    tile_state.request(device.cpu_features)
    # bfloat16 is the first half of a float32. A sum may have any value: tiles know no denormal numbers.
    factors = np.random.default_rng(0).standard_normal((2, ROWS, 2 * PAIRS), np.float32)
    a, b = (tvm.runtime.tensor(each) for each in (factors.view(np.uint32) >> 16).astype(np.uint16))
    config = tvm.runtime.tensor(configuration())
    sums = tvm.runtime.tensor(np.zeros((threads, SUMS, ROWS, COLUMNS), np.float32))
    tvm.get_global_func("runtime.config_threadpool")(*pool_arguments(threads, size=threads))
    return (lambda: run(config, a, b, sums)), threads * operations()


def _emit(name: str, *operands: Any) -> None:
    builder.evaluate(instruction(name, *operands))
