"""From a device of the catalogue to a TVM target."""

from __future__ import annotations

from typing import Any

import cpuinfo
import tvm
from tvm.target import codegen

from tvm_conv3dt import cpu, cuda_driver, tile_state
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.activation import EXPENSIVE
from tvm_conv3dt.cuda_driver import CudaGpu
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import DeviceError, PlatformError, UnsupportedError, describe
from tvm_conv3dt.spec import Workload

# Features that tell generations of CPUs apart: the catalogue's names and LLVM's.
_TELLING = {
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512_fp16": "avx512fp16",
    "amx_bf16": "amx-bf16",
}

# The least that a CPU which calls kernels of a GPU has.
_HOSTS = {"x86_64": "x86-64-v2", "aarch64": "aarch64"}
_WARP = 32
# LLVM's measure of the copies of a loop, 50 by itself: of the loops that need it all are made, and they take some kilobytes.
_UNSWITCHED = 2000

__all__ = [
    "GPU",
    "host_of",
    "processor_name",
    "require_compilable",
    "require_runnable",
    "resolve",
    "target_of",
]

GPU = "cuda"
"""The name that stands for the first GPU of this machine."""


def processor_name(device: Device) -> str:
    """Return the brand name of what runs a device's code on this machine, for records that people read.

    Raises
    ------
    PlatformError
        If that is a GPU, and there is none.
    """
    if device.kind == "cuda":
        return cuda_driver.find().gpus[0].name
    return str(cpuinfo.get_cpu_info().get("brand_raw", "unknown"))


def resolve(name: str) -> Device:
    """Return the device called `name`.

    ``host`` is this machine, named after its microarchitecture where that is known. ``cuda`` is the first GPU of this
    machine: the catalogue's entry for its architecture, or for the nearest one below.

    Raises
    ------
    DeviceError
        If the catalogue has no such device, or the GPU is older than all in it.
    PlatformError
        If the name is ``cuda``, and this machine has no driver or no GPU.
    """
    if name == "host":
        return catalogue.host(_microarchitecture())
    if name == GPU:
        return _of_gpu(_first_gpu("find", GPU))
    return catalogue.get(name)


def _first_gpu(verb: str, name: str) -> CudaGpu:
    try:
        return cuda_driver.find().gpus[0]
    except PlatformError as error:
        mend = "run this on a machine with a GPU; build needs none, for a device such as cuda-sm90"
        raise PlatformError(
            describe(verb, "device", name, f"it is a GPU: {error}", mend)
        ) from error


def _of_gpu(gpu: CudaGpu) -> Device:
    entries = [catalogue.get(each) for each in catalogue.names() if each != catalogue.HOST]
    below = [
        each for each in entries if each.kind == "cuda" and _number(each.arch) <= _number(gpu.arch)
    ]
    if not below:
        rule = f"the first GPU, {gpu.name}, is {gpu.arch}, older than all in the catalogue"
        raise DeviceError(describe("find", "device", GPU, rule))
    return max(below, key=lambda each: _number(each.arch))


def _number(arch: str) -> int:
    return int(arch.removeprefix("sm_"))


def _microarchitecture() -> str | None:
    """Return LLVM's name of this CPU, or None where it cannot be right.

    LLVM goes by the model's number, and hypervisors make that up: a server's CPU with matrix units then is called a
    desktop's without, and would be given the schedules of that.
    """
    name = str(codegen.llvm_get_system_cpu())
    target = tvm.target.Target({"kind": "llvm", "mcpu": name})
    known = {str(feature) for feature in codegen.llvm_get_cpu_features(target)}
    have = cpu.features()
    beyond = [each for each, feature in _TELLING.items() if each in have and feature not in known]
    return None if beyond else name


def host_of(device: Device) -> Device:
    """Return the CPU that calls kernels of `device`: itself, or for a GPU the one that its entry names.

    Where an entry names none, it is any CPU of this machine's architecture.
    """
    if device.kind != "cuda":
        return device
    return catalogue.get(device.host or _HOSTS[cpu.architecture()])


def target_of(device: Device, unswitched: bool = False, unrolled: bool = True) -> tvm.target.Target:
    """Return the TVM target of `device`.

    `unswitched` lets LLVM copy loops for all of many conditions that do not change in them, and `unrolled` write out their turns.
    """
    if device.gpu is not None:
        gpu = {
            "kind": "cuda",
            "arch": device.arch,
            "max_threads_per_block": device.gpu.threads_per_block,
            "max_shared_memory_per_block": device.gpu.shared_bytes_per_block,
            "thread_warp_size": _WARP,
        }
        return tvm.target.Target(gpu, host=target_of(host_of(device)))
    config: dict[str, Any] = {
        "kind": "llvm",
        "mtriple": device.triple,
        "mcpu": device.mcpu,
        "num-cores": device.cores,
        # What is worth vectors says so itself, and LLVM 22 stores too much where it makes a masked store of one
        # 16-bit element of the end of a loop: over the neighbour that another task wrote.
        "cl-opt": ["-vectorize-loops:bool=false"],
    }
    if unswitched:
        config["cl-opt"].append(f"-unswitch-threshold:uint={_UNSWITCHED}")
    if not unrolled:
        config["cl-opt"].append("-unroll-threshold-aggressive:uint=0")
    if device.mattr:
        config["mattr"] = list(device.mattr)
    if device.triple.endswith("hf"):
        config["mfloat-abi"] = (
            "hard"  # else numbers go to the C library in other registers than it takes them from
        )
    return tvm.target.Target(config)


def require_compilable(workload: Workload, device: Device) -> None:
    """Refuse what would compile for a device to a library that does not load.

    Raises
    ------
    UnsupportedError
        If the workload takes an exponential in float64, and the device is an armv7: what LLVM calls there to make an integer of
        a float64 is in no library that kernels are linked with.
    """
    exponential = workload.activation in EXPENSIVE and workload.sum_dtype == "float64"
    if device.arch == "armv7" and exponential:
        rule = f"{workload.activation} in float64 is not compiled for armv7"
        mend = "compute it in float32, or apply the activation outside"
        raise UnsupportedError(describe("compile", "workload", workload.id, rule, mend))


def require_runnable(device: Device) -> None:
    """Refuse a device whose code this machine cannot run: nothing can be measured for it here.

    Raises
    ------
    PlatformError
        If the device is a GPU, and this machine has no driver or no GPU; or its code uses a matrix unit, and the
        kernel refuses its registers.
    DeviceError
        If this machine has another architecture, lacks CPU features, or its GPU is older than the device.
    """
    if device.kind == "cuda":
        _require_gpu(device)
        return
    missing = sorted(set(device.cpu_features) - cpu.features())
    if device.arch != cpu.architecture():
        rule = f"its code is for {device.arch}, and this machine is {cpu.architecture()}"
    elif missing:
        rule = f"its code needs {', '.join(missing)}, which this machine's CPU has not"
    else:
        tile_state.request(device.cpu_features)
        return
    mend = "tune on such a machine, or for --device host"
    raise DeviceError(describe("measure for", "device", device.name, rule, mend))


def _require_gpu(device: Device) -> None:
    gpu = _first_gpu("measure for", device.name)
    if _number(device.arch) > _number(gpu.arch):
        rule = f"its code is for {device.arch}, and the first GPU, {gpu.name}, is {gpu.arch}"
        mend = f"take the device {GPU}, which is the nearest to it"
        raise DeviceError(describe("measure for", "device", device.name, rule, mend))
