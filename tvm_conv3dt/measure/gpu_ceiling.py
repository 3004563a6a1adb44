"""What a GPU's memory reaches: copies and fills by its driver, to time beside kernels. As `load` for CPUs."""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm_conv3dt.measure.gpu import Gpu
from tvm_conv3dt.measure.load import MOVE, Load, written_bytes
from tvm_conv3dt.spec import Workload

__all__ = ["Memory"]

_VOLUME = 1 << 30
_LEAST_VOLUME = 1 << 20
_SHARE = 4  # of the memory that nobody has, for each of two volumes
# What is moved in one call at least: else waiting for it is what shows.
_LEAST_CALL = 256 << 20
# A command of the driver has a beginning and an end of its own: smaller moves say nothing of memory.
_LEAST_MOVE = 4 << 20


class Memory:
    """Two volumes of a GPU's memory and what is timed with them."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        free = gpu.free_bytes() // _SHARE
        self._size = max(_LEAST_VOLUME, min(_VOLUME, free // 256 * 256))
        self._source, self._target = gpu.allocate(self._size, 1), gpu.allocate(self._size, 1)

    def loads(self) -> dict[str, Load]:
        """Return a large copy and a large fill, by the names that `Ceilings.of` knows."""
        size, gpu = self._size, self._gpu

        def copy() -> None:
            gpu.copy(self._target, self._source, size)

        def write() -> None:
            gpu.fill(self._target, 1, size)

        return {
            "copy": (self._waiting(copy, 1), 2 * size),
            "write": (self._waiting(write, 1), size),
        }

    def move(self, workload: Workload) -> dict[str, Load]:
        """Return the moving of as many bytes as a workload reads and writes; nothing where they find no room.

        What can be is copied, and a surplus of output is filled. The driver has no command that reads only: of a surplus
        of input, one half is copied to the other. Small workloads are moved in a larger multiple.
        """
        written = written_bytes(workload)
        scale = math.ceil(_LEAST_MOVE / workload.bytes)
        written, read = written * scale, (workload.bytes - written) * scale
        both = min(written, read)
        filled, halves = written - both, (read - both) // 2
        moved = 2 * both + filled + 2 * halves
        if max(both + filled, both + 2 * halves) > self._size:
            return {}
        gpu, source, target = self._gpu, self._source, self._target

        def once() -> None:
            if both:
                gpu.copy(target, source, both)
            if filled:
                gpu.fill(target + both, 1, filled)
            if halves:
                gpu.copy(source + both + halves, source + both, halves)

        passes = math.ceil(_LEAST_CALL / moved)
        return {MOVE + workload.id: (self._waiting(once, passes), moved * passes)}

    def _waiting(self, queue: Callable[[], None], passes: int) -> Callable[[], None]:
        def run() -> None:
            for _ in range(passes):
                queue()
            self._gpu.synchronize()

        return run
