"""What is particular to GPUs: their limits, as the catalogue gives them, and what a kernel takes of them."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_conv3dt.fields import Fields

__all__ = ["Gpu", "KernelResources"]


@dataclass(frozen=True)
class Gpu:
    """What one architecture of GPUs allows.

    Attributes
    ----------
    multiprocessors : int
        To divide work among.
    threads_per_block, threads_per_multiprocessor : int
        The most there can be.
    registers_per_thread, registers_per_multiprocessor : int
        Of 32 bits.
    shared_bytes_per_block, shared_bytes_per_multiprocessor : int
        The former as far as it can be declared in a kernel; larger ones must be asked for at launch.
    """

    multiprocessors: int
    threads_per_block: int
    threads_per_multiprocessor: int
    registers_per_thread: int
    registers_per_multiprocessor: int
    shared_bytes_per_block: int
    shared_bytes_per_multiprocessor: int


@dataclass(frozen=True)
class KernelResources:
    """What a compiled function takes of a GPU.

    Attributes
    ----------
    name : str
        The function's name.
    threads : int
        Of one block.
    registers : int
        Of one thread.
    shared_bytes : int
        Shared memory of one block.
    spill_bytes : int
        What a thread writes to memory and reads back for want of registers: both counted.
    stack_bytes : int
        Memory of a thread's own: of what was spilled, and of arrays that did not become registers because something
        indexes them by a variable, which is as slow.
    """

    name: str
    threads: int
    registers: int
    shared_bytes: int
    spill_bytes: int
    stack_bytes: int

    @classmethod
    def from_fields(cls, fields: Fields) -> KernelResources:
        """Read the form that ``asdict`` gives; a damaged one raises `FileFormatError`."""
        resources = cls(
            name=fields.text("name"),
            threads=fields.integer("threads"),
            registers=fields.integer("registers"),
            shared_bytes=fields.integer("shared_bytes"),
            spill_bytes=fields.integer("spill_bytes"),
            stack_bytes=fields.integer("stack_bytes"),
        )
        fields.finish()
        return resources
