"""From scheduled functions to CUDA C, and to what their host code launches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.target import Target
from tvm.tirx.build import split_host_device_mods

__all__ = ["SM_80", "HostFunction", "Launch", "Lowered", "Parameter", "lower"]

SM_80 = Target(
    {
        "kind": "cuda",
        "arch": "sm_80",
        "max_threads_per_block": 1024,
        "max_shared_memory_per_block": 49152,
        "thread_warp_size": 32,
    },
    host={"kind": "llvm"},
)

_ANY_VALUE = 15  # where tvm_struct_get finds the value of an argument
_TENSOR_DATA = 1


@dataclass(frozen=True)
class Parameter:
    """A buffer that a function takes."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Launch:
    """A kernel that a host function starts.

    Attributes
    ----------
    arguments : tuple
        For each argument the key of a buffer in `HostFunction`: ``("parameter", i)`` or ``("workspace", i)``; or a
        number.
    grid, block : tuple of int
        x, y, z.
    """

    kernel: str
    arguments: tuple[tuple[str, int] | int | float, ...]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]


@dataclass(frozen=True)
class HostFunction:
    """What a function does: launches, one after the other, with the memory in bytes that it allocates for them."""

    parameters: tuple[Parameter, ...]
    workspaces: tuple[int, ...]
    launches: tuple[Launch, ...]


@dataclass(frozen=True)
class Lowered:
    """CUDA C of all kernels of a module, and its host functions by name."""

    source: str
    functions: dict[str, HostFunction]


def lower(module: tvm.IRModule | tirx.PrimFunc, target: Target, pipeline: str | None) -> Lowered:
    """Lower as ``tvm.compile(module, target, tir_pipeline=pipeline)`` does, to source and launches.

    Parameters
    ----------
    module
        Scheduled functions with static shapes.
    target : tvm.target.Target
        Of kind ``cuda``, with a host.
    pipeline : str or None
        Name of a registered pipeline, by default the target's own.

    Raises
    ------
    ValueError
        If a host function does what is not understood here: loops, conditions, shapes that are not static.
    """
    if isinstance(module, tirx.PrimFunc):
        module = tvm.IRModule({module.attrs["global_symbol"]: module})
    parameters = {name.name_hint: _parameters(each) for name, each in module.functions.items()}
    if pipeline is None:
        passes, _, finish_device = tirx.get_default_tir_pipeline(target)
    else:
        passes, _, finish_device = tirx.get_tir_pipeline(pipeline)
    host, devices = split_host_device_mods(passes(tirx.transform.BindTarget(target)(module)))
    if len(devices) != 1:
        raise ValueError(f"the module is for {len(devices)} devices, and not for one")
    [(device, kernels)] = devices.items()
    with _source_only():
        built = tvm.get_global_func("target.build.cuda")(finish_device()(kernels), device)
    functions = {
        name.name_hint: _Host(parameters[name.name_hint]).read(function)
        for name, function in host.functions.items()
    }
    return Lowered(built.inspect_source(), functions)


@contextmanager
def _source_only() -> Iterator[None]:
    """Keep TVM from compiling the source, which it does where there is a GPU."""
    name = "TVM_COMPILE_FORCE_FALLBACK"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _parameters(function: tirx.PrimFunc) -> tuple[Parameter, ...]:
    return tuple(
        Parameter(each.name, tuple(int(extent) for extent in each.shape), str(each.dtype))
        for each in function.params
    )


@dataclass
class _Host:
    """Reads a lowered host function, before its calls become those of the C interface."""

    parameters: tuple[Parameter, ...]
    workspaces: list[int] = field(default_factory=list)
    launches: list[Launch] = field(default_factory=list)
    _buffers: dict[Any, tuple[str, int]] = field(default_factory=dict)
    _bound: dict[Any, Any] = field(default_factory=dict)

    def read(self, function: tirx.PrimFunc) -> HostFunction:
        self._statement(function.body)
        return HostFunction(self.parameters, tuple(self.workspaces), tuple(self.launches))

    def _statement(self, statement: Any) -> None:
        if isinstance(statement, tirx.SeqStmt):
            for each in statement.seq:
                self._statement(each)
        elif isinstance(statement, tirx.AttrStmt):
            self._statement(statement.body)
        elif isinstance(statement, tirx.Bind):
            self._bound[statement.var] = statement.value
        elif isinstance(statement, tirx.AllocBuffer):
            buffer = statement.buffer
            self._buffers[buffer] = "workspace", len(self.workspaces)
            itemsize = tvm.DataType(str(buffer.dtype)).itemsize
            self.workspaces.append(prod(int(extent) for extent in buffer.shape) * itemsize)
        elif isinstance(statement, tirx.DeclBuffer):
            self._buffers[statement.buffer] = self._memory(statement.data)
        elif isinstance(statement, tirx.Evaluate):
            self._call(statement.value)
        elif _launches_in(statement):
            raise ValueError(f"a kernel is launched inside of a {type(statement).__name__}")

    def _call(self, call: Any) -> None:
        if not isinstance(call, tvm.ir.Call):
            return
        if call.op.name == "tirx.call_ffi_kernel":
            self._launch(call)
        elif "call_packed" in call.op.name and str(call.args[0].value) != "__tvm_set_device":
            raise ValueError(f"the host calls {call.args[0]}")

    def _launch(self, call: Any) -> None:
        tags = [str(tag) for tag in call.attrs.launch_params]
        count = len(call.args) - len(tags)
        extents = {tag: 1 for tag in (f"{of}Idx.{axis}" for of in _OF for axis in "xyz")}
        for tag, extent in zip(tags, call.args[count:], strict=True):
            if tag not in extents:
                raise ValueError(f"a kernel is launched with {tag}")
            extents[tag] = int(extent)
        grid, block = (tuple(extents[f"{of}Idx.{axis}"] for axis in "xyz") for of in _OF)
        arguments = tuple(self._argument(each) for each in call.args[1:count])
        self.launches.append(Launch(str(call.args[0].value), arguments, grid, block))

    def _argument(self, argument: Any) -> tuple[str, int] | int | float:
        if isinstance(argument, tirx.IntImm | tirx.FloatImm):
            return argument.value
        return self._memory(argument)

    def _memory(self, pointer: Any) -> tuple[str, int]:
        """Return the key of the memory that an expression points to."""
        if isinstance(pointer, tvm.ir.Call) and pointer.op.name == "tirx.buffer_data":
            return self._buffers[pointer.args[0]]
        found = self._parameter(pointer)
        if found is None:
            raise ValueError(f"the host passes {pointer} to a kernel")
        return found

    def _parameter(self, pointer: Any) -> tuple[str, int] | None:
        """Return the parameter whose data an expression is: the data of a tensor, taken from the arguments."""
        found: list[int] = []

        def visit_call(call: Any) -> None:
            if getattr(call.op, "name", "") != "tirx.tvm_struct_get":
                return
            of, index, kind = call.args[0], int(call.args[1]), int(call.args[2])
            if kind == _ANY_VALUE:
                found.append(index)
            elif kind == _TENSOR_DATA and of in self._bound:
                tvm_ffi.structural_walk(self._bound[of], (tvm.ir.Call, visit_call))

        tvm_ffi.structural_walk(pointer, (tvm.ir.Call, visit_call))
        return ("parameter", found[0]) if len(set(found)) == 1 else None


_OF = ("block", "thread")


def _launches_in(statement: Any) -> bool:
    found: list[Any] = []

    def visit(call: Any) -> None:
        if getattr(call.op, "name", "") == "tirx.call_ffi_kernel":
            found.append(call)

    tvm_ffi.structural_walk(statement, (tvm.ir.Call, visit))
    return bool(found)
