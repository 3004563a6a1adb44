"""Does a byte cost more the farther from the core it lies?"""

from math import inf

import pytest

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.spaces.memory_model import fetch


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4-bf16", "x86-64-v4-amx"])
def test_each_cache_costs_more_than_the_one_before(name):
    device = catalogue.get(name)
    sizes = [device.l1_bytes / 2, device.l2_bytes / 4, device.l3_bytes / 2, inf]
    costs = [fetch(device, size) for size in sizes]
    assert costs[0] == 0
    assert costs == sorted(set(costs))


def test_amds_third_cache_gives_more():
    amd, intel = (catalogue.get(name) for name in ("x86-64-v4-bf16", "x86-64-v4"))
    assert fetch(intel, intel.l3_bytes / 2) > 2 * fetch(amd, amd.l3_bytes / 2)
