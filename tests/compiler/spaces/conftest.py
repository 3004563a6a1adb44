"""A CPU with a matrix unit, and this one as if it had none."""

from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt import tile_state
from tvm_conv3dt.device import Device

UNIT = catalogue.get("x86-64-v4-amx")
HAS_UNIT = catalogue.cpu_features().issuperset(UNIT.cpu_features)


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
