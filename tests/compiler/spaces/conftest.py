"""A CPU with a matrix unit, and this one as if it had none; results by numbers of threads."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

tvm = pytest.importorskip("tvm")

from tvm_conv3dt import cpu, tile_state
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.device import Device
from tvm_conv3dt.threads import pool_arguments

UNIT = catalogue.get("x86-64-v4-amx")
HAS_UNIT = cpu.features().issuperset(UNIT.cpu_features)


def repeats(device: Device) -> bool:
    """Whether a device's loops are those that this CPU has instructions for, and that are tested with these."""
    return HAS_UNIT and "amx_bf16" not in device.cpu_features


@pytest.fixture(params=["loops", "instructions"])
def device(request: pytest.FixtureRequest, host: Device) -> Device:
    """A device with the instructions, or this machine as if it had none."""
    if request.param == "loops":
        without = [each for each in host.cpu_features if each != "amx_bf16"]
        return replace(host, cpu_features=tuple(without))
    if not HAS_UNIT:
        pytest.skip("this CPU has no AMX")
    tile_state.request(host.cpu_features)
    return host


@pytest.fixture
def of_threads(call: Callable[..., Any], host: Device) -> Any:
    """``of_threads(kernels, data)``: the bytes of each kernel's result with 1, 2 and 3 threads."""
    config = tvm.get_global_func("runtime.config_threadpool")

    def of_threads(kernels: Any, data: Any) -> list[bytes]:
        found = []
        for threads in (1, 2, 3):
            config(*pool_arguments(threads, size=3))
            found += [call(each, *data).tobytes() for each in kernels]
        return found

    yield of_threads
    config(*pool_arguments(host.cores, size=3))
