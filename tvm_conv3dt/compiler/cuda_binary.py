"""What a compiler of CUDA C gives: machine code with PTX, and what each kernel takes of a GPU."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tvm_conv3dt.errors import CompileError, DeviceError, describe
from tvm_conv3dt.gpu import KernelResources

__all__ = [
    "CudaBinary",
    "ptxas_options",
    "read_resources",
    "refuse",
    "require_known",
    "virtual_arch",
]

_KERNEL = re.compile(
    r"__global__\s+void\s+(?:__launch_bounds__\s*\(\s*(?P<threads>\d+)[^)]*\)\s*)?(?P<name>\w+)\s*\("
)
_ENTRY = re.compile(r"Compiling entry function '(?P<name>\w+)'")
_SPILLS = re.compile(r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (?P<count>\d+) registers")
_SHARED = re.compile(r"(?P<count>\d+) bytes smem")
_STACK = re.compile(r"(?P<count>\d+) bytes stack frame")


@dataclass(frozen=True)
class CudaBinary:
    """A compiled source.

    Attributes
    ----------
    fatbin : bytes
        Machine code for one architecture, and PTX that a driver compiles for later ones.
    resources : tuple of KernelResources
        What each kernel takes, in the order of the source.
    toolkit : str
        What compiled it, with its version: ``"nvcc 13.0.88"``.
    """

    fatbin: bytes
    resources: tuple[KernelResources, ...]
    toolkit: str

    @property
    def spill_bytes(self) -> int:
        """What the threads of all kernels spill, and hold on their stacks."""
        return sum(each.spill_bytes + each.stack_bytes for each in self.resources)

    @classmethod
    def make(cls, fatbin: bytes, source: str, report: str, toolkit: str) -> CudaBinary:
        """Join a compiler's output and the report of its assembler, ptxas.

        Raises
        ------
        CompileError
            If the report says nothing of a kernel.
        """
        return cls(fatbin, read_resources(source, report), toolkit)


@dataclass
class _Reported:
    registers: int = -1
    shared_bytes: int = 0
    spill_bytes: int = 0
    stack_bytes: int = 0


def read_resources(source: str, report: str) -> tuple[KernelResources, ...]:
    """Read what each kernel of `source` takes from what ``ptxas -v`` reported of it.

    The threads are those of ``__launch_bounds__``; a kernel without has one thread, since TVM states the bounds of all
    others.

    Raises
    ------
    CompileError
        If the report says nothing of a kernel.
    """
    reported = _read(report)
    # A kernel may be declared before it is defined.
    threads = {found["name"]: int(found["threads"] or 1) for found in _KERNEL.finditer(source)}
    resources = []
    for name, count in threads.items():
        its = reported.get(name)
        if its is None or its.registers < 0:
            rule = "the compiler's report does not say what it takes"
            raise CompileError(describe("read", "the resources of kernel", name, rule))
        resources.append(
            KernelResources(
                name, count, its.registers, its.shared_bytes, its.spill_bytes, its.stack_bytes
            )
        )
    return tuple(resources)


def _read(report: str) -> dict[str, _Reported]:
    reported: dict[str, _Reported] = {}
    current = _Reported()  # what is said before the first kernel is of none
    for line in report.splitlines():
        if found := _ENTRY.search(line):
            current = reported.setdefault(found["name"], _Reported())
        if found := _SPILLS.search(line):
            # Once more for each function that is called and not inlined.
            current.spill_bytes += int(found["stores"]) + int(found["loads"])
        if found := _STACK.search(line):
            current.stack_bytes = max(current.stack_bytes, int(found["count"]))
        if found := _REGISTERS.search(line):
            current.registers = int(found["count"])
            if found := _SHARED.search(line):
                current.shared_bytes = int(found["count"])
    return reported


def ptxas_options(usage_level: int) -> list[str]:
    """Return what the assembler is told: how freely to use registers, from 0 to 10, and to report."""
    return ["-v", f"--register-usage-level={usage_level}"]


def virtual_arch(arch: str) -> str:
    """Return the name that PTX for `arch` has: ``compute_90`` for ``sm_90``."""
    return f"compute_{arch.removeprefix('sm_')}"


def require_known(arch: str, known: Iterable[str], toolkit: str) -> None:
    """Refuse an architecture that is none of those that a toolkit knows.

    Raises
    ------
    DeviceError
        If it is none of them.
    """
    names = sorted(known, key=lambda name: int(name.removeprefix("sm_")))
    if arch not in names:
        rule = f"{toolkit} compiles for {', '.join(names)}"
        mend = "take one of these, or install another version of the CUDA toolkit"
        raise DeviceError(describe("compile CUDA C for", "architecture", arch, rule, mend))


def refuse(log: str, arch: str, toolkit: str) -> CompileError:
    """Return the error for a source that did not compile, with the first error in the compiler's output."""
    lines = [stripped for line in log.splitlines() if (stripped := line.strip(" \t\0"))]
    errors = [line for line in lines if re.search(r"\b(error|fatal)\b", line)]
    said = (errors or lines[-1:] or ["it said nothing"])[0]
    return CompileError(describe("compile", "CUDA C", f"{toolkit} for {arch}", said))
