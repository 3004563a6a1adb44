"""Is it known how many multiply-adds a core starts?"""

import pytest

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.spaces.core_model import adds_apart, multiply_adds


@pytest.mark.parametrize(
    ("name", "apart", "starts"),
    [
        ("x86-64-v3", False, 2),
        ("x86-64-v4", False, 2),
        ("x86-64-v4-amx", False, 2),
        ("x86-64-v4-bf16", True, 1),  # Zen 4
    ],
)
def test_zen_4_starts_half_as_many_of_the_longest_vectors(name, apart, starts):
    device = catalogue.get(name)
    assert adds_apart(device) is apart
    assert multiply_adds(device, device.vector_bits) == starts
    assert multiply_adds(device, 256) == 2
