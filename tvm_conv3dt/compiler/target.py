"""From a device of the catalogue to a TVM target."""

from __future__ import annotations

import cpuinfo
import tvm
from tvm.target import codegen

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.device import Device
from tvm_conv3dt.errors import UnsupportedError, describe

__all__ = ["cpu_name", "resolve", "target_of"]


def cpu_name() -> str:
    """Return the brand name of this machine's CPU, for records that people read."""
    return str(cpuinfo.get_cpu_info().get("brand_raw", "unknown"))


def resolve(name: str) -> Device:
    """Return the device called `name`; ``host`` is this machine, named after its microarchitecture.

    Raises
    ------
    DeviceError
        If the catalogue has no such device.
    """
    if name == "host":
        return catalogue.host(codegen.llvm_get_system_cpu())
    return catalogue.get(name)


def target_of(device: Device) -> tvm.target.Target:
    """Return the TVM target of `device`.

    Raises
    ------
    UnsupportedError
        If the device's kind is not compiled for yet.
    """
    if device.kind != "llvm":
        raise UnsupportedError(
            describe(
                "compile for", "device", device.name, f"kind {device.kind} is not supported yet"
            )
        )
    config = {
        "kind": "llvm",
        "mtriple": f"{device.arch}-{device.os}-gnu",
        "mcpu": device.mcpu,
        "num-cores": device.cores,
    }
    if device.mattr:
        config["mattr"] = list(device.mattr)
    return tvm.target.Target(config)
