"""Compiled kernels with every argument beside pages that nobody may touch; run as a program, which may crash.

    python -m conformance.guarded < jobs      each line of the jobs is JSON: a workload's id, and a point or null
    python -m conformance.guarded after       touches a guard page itself: after, before, or locked

It says ``begin <number>`` before each job, and ``end <number> <what is wrong>`` behind it.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

_NONE, _READ = 0, 1  # PROT_NONE and PROT_READ, which not every Python's mmap has names for
_PAGE = mmap.PAGESIZE
_FILL = 0xFF  # NaN in every float format
_libc = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """An array flush against a page without access: at its end, or at its start.

    Parameters
    ----------
    shape, dtype
        Of `array`, whose content is NaN.
    place : str
        ``"end"`` or ``"start"``.
    alignment : int
        Bytes, of the array's address.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, place: str, alignment: int):
        size = int(np.prod(shape)) * dtype.itemsize
        self._pages = -(-size // _PAGE) * _PAGE
        self._map = mmap.mmap(-1, self._pages + 2 * _PAGE)
        memory = np.frombuffer(self._map, np.uint8)
        self._address = memory.ctypes.data + _PAGE
        start = (self._pages - size) // alignment * alignment if place == "end" else 0
        body = memory[_PAGE : _PAGE + self._pages]
        body.fill(_FILL)
        self._around = body[:start], body[start + size :]
        self.array = body[start : start + size].view(dtype).reshape(shape)
        self._protect(self._address - _PAGE, _PAGE, _NONE)
        self._protect(self._address + self._pages, _PAGE, _NONE)

    def lock(self) -> Guarded:
        """Let nobody write to the array any more."""
        self._protect(self._address, self._pages, _READ)
        return self

    def check(self) -> None:
        """Fail if something was written beside the array in its own pages."""
        assert all((part == _FILL).all() for part in self._around), "bytes beside an argument"

    @staticmethod
    def _protect(address: int, size: int, access: int) -> None:
        if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), access):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def guarded(source: np.ndarray, place: str) -> Guarded:
    """Return a locked copy, aligned to its elements and no better."""
    copy = Guarded(source.shape, source.dtype, place, source.dtype.itemsize)
    copy.array[...] = source
    return copy.lock()


def run_guarded(
    functions: tuple[Callable[..., Any], Callable[..., Any]],
    packed_as: tuple[tuple[int, ...], np.dtype],
    place: str,
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray],
) -> None:
    """Pack and run as `tvm_conv3dt.runtime.operator` does, all in guarded memory.

    Parameters
    ----------
    functions
        The packing and the kernel, of arrays.
    packed_as
        Shape and dtype of packed filters.
    place
        Where the arguments touch a guard page.
    arrays
        Input, filters, bias or None, and where the result is copied to.
    """
    from tvm_conv3dt.memory import ALIGNMENT

    pack, run = functions
    x, filters, bias, out = arrays
    packed = Guarded(*packed_as, place, ALIGNMENT)
    held = guarded(filters, place)
    pack(held.array, packed.array)
    packed.lock().check()
    y = Guarded(out.shape, out.dtype, place, out.dtype.itemsize)
    inputs = [guarded(x, place), packed]
    if bias is not None:
        inputs.append(guarded(bias, place))
    run(*(each.array for each in inputs), y.array)
    y.check()
    out[...] = y.array


def check(workload_id: str, point: dict[str, Any] | None) -> None:
    """Compile a workload, as a point of its space or as the default has it, and run it in guarded memory."""
    from tvm_conv3dt.measure.verify import verify
    from tvm_conv3dt.spec import Workload

    workload = Workload.from_id(workload_id)
    if point is None:
        *functions, packed_as = _from_bundle(workload)
    elif "rows" in point:
        *functions, packed_as = _from_gpu_point(workload, point)
    else:
        *functions, packed_as = _from_point(workload, point)
    for place in ("end", "start"):
        found = verify(
            workload,
            lambda *arrays, place=place: run_guarded(functions, packed_as, place, arrays),
        )
        if found.status == "FAILED":
            found.raise_if_failed()


def _from_bundle(workload):
    from tvm_conv3dt.compiler.cache import bundle_for
    from tvm_conv3dt.runtime import load
    from tvm_conv3dt.runtime.library import load_library

    bundle = load(bundle_for(workload))
    layer, kernel = bundle.layer(workload), bundle.kernel(workload)
    library = load_library(bundle.path, kernel.library)
    # The functions keep the library.
    pack, run = map(library.function, (layer.pack_symbol, layer.run_symbol))
    return _of_tensors(pack), _of_tensors(run), (kernel.packed_shape, np.dtype(kernel.packed_dtype))


def _from_point(workload, fields):
    from tvm_conv3dt import tile_state
    from tvm_conv3dt.compiler import kernel
    from tvm_conv3dt.compiler.spaces import llvm
    from tvm_conv3dt.compiler.spaces.point import Point
    from tvm_conv3dt.compiler.target import resolve

    point, device = Point(**fields), resolve("host")
    tile_state.request(device.cpu_features)
    layout = llvm.layout_of(workload, device, point.formulation)
    schedule = kernel.new_schedule(layout)
    llvm.apply(schedule, layout, device, point.family, point.choose)
    built = kernel.compile_kernel(layout, device, schedule)
    packed_as = built.packed_shape, np.dtype(built.packed_dtype)
    return _of_tensors(built.pack), _of_tensors(built.run), packed_as


def _of_tensors(function):
    from tvm_conv3dt.runtime.arrays import tensor

    return lambda *arrays: function(*map(tensor, arrays))


def _from_gpu_point(workload, fields):
    from cuda_on_cpu.operators import emulated

    from tvm_conv3dt import device as devices
    from tvm_conv3dt.compiler.schedule import point_schedule
    from tvm_conv3dt.compiler.spaces.point import GpuPoint
    from tvm_conv3dt.memory import stored

    device = devices.get("cuda-sm87")
    schedule = point_schedule(workload, device, GpuPoint(**fields))
    functions, layout = emulated(schedule, device), schedule.layout(device)

    def of_arrays(name):
        return lambda *arrays: functions[name](*map(stored, arrays))

    packed_as = layout.packed_shape, np.dtype(layout.packed_dtype)
    return of_arrays("pack"), of_arrays("run"), packed_as


def touch(what: str) -> None:
    """Do what a kernel must not."""
    array = guarded(np.ones(3, np.float32), "start" if what == "before" else "end").array
    address = array.ctypes.data
    assert ctypes.string_at(address, array.nbytes) == array.tobytes()
    if what == "after":
        ctypes.string_at(address + array.nbytes, 1)
    elif what == "before":
        ctypes.string_at(address - 1, 1)
    else:
        ctypes.memset(address, 0, 1)


def main() -> None:
    """Run the jobs of stdin."""
    if sys.argv[1:]:
        touch(sys.argv[1])
        return
    for number, line in enumerate(sys.stdin.read().splitlines()):
        print("begin", number, flush=True)
        try:
            check(*json.loads(line))
            verdict = ""
        except Exception as error:  # told to the test, which goes on with the next
            verdict = f"{type(error).__name__}: {error}".replace("\n", " ")
        print("end", number, verdict, flush=True)


if __name__ == "__main__":
    main()
