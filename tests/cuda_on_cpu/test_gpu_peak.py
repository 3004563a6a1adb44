"""Do the kernels of a GPU's peaks do what they count? Executed on the CPU."""

import numpy as np
import pytest

from tvm_conv3dt.compiler import gpu_peak

from .emulator import Emulated
from .lowering import HostFunction, Launch, Lowered, Parameter

BLOCKS = 2
STEPS = 3


def run(name, state, steps):
    launch = Launch(name, (("parameter", 0), steps), (BLOCKS, 1, 1), (gpu_peak.THREADS, 1, 1))
    function = HostFunction((Parameter("state", state.shape, "float32"),), (), (launch,))
    Emulated.from_lowered(Lowered(gpu_peak.source(), {name: function}))[name](state)


def state():
    memory = np.zeros(gpu_peak.sums_bytes(BLOCKS) + 32, np.uint8)
    start = -memory.ctypes.data % 32
    found = memory[start : start + gpu_peak.sums_bytes(BLOCKS)].view(np.float32)
    found[:] = np.random.default_rng(0).random(found.size, np.float32) + 1
    return found


def test_every_sum_changes_its_sign_in_every_multiply_add():
    found, before = state(), state()
    run(gpu_peak.FMA, found, 0)
    np.testing.assert_array_equal(found, before)
    sums = BLOCKS * gpu_peak.THREADS * 16
    adds = gpu_peak.operations(gpu_peak.FMA, BLOCKS, STEPS) // 2
    each, left = divmod(adds, sums)
    assert (each, left) == (8 * STEPS, 0)
    run(gpu_peak.FMA, found, STEPS)
    np.testing.assert_array_equal(found[:sums], (-1) ** each * before[:sums])


def test_every_square_is_the_sum_of_its_products():
    found = state()
    run(gpu_peak.MATRIX, found, STEPS)
    warps, tile = BLOCKS * gpu_peak.THREADS // 32, 16 * 16
    squares = found[: warps * 4 * tile].reshape(warps, 2, 2, tile)
    # 16 products of a half and one of both rows, and of one and three halves of both columns, each step.
    for row, a in enumerate((0.5, 1.0)):
        for column, b in enumerate((1.0, 1.5)):
            np.testing.assert_array_equal(squares[:, row, column], 16 * STEPS * a * b)
    adds = gpu_peak.operations(gpu_peak.MATRIX, BLOCKS, STEPS) // 2
    assert adds == warps * 4 * tile * 16 * STEPS


@pytest.mark.parametrize("blocks", [1, 7])
def test_state_holds_the_sums_of_either_kernel(blocks):
    assert gpu_peak.sums_bytes(blocks) == blocks * gpu_peak.THREADS * 32 * 4


def test_sums_are_left_to_begin_with_again():
    """Launches follow each other on the same state."""
    found = state()
    for _ in range(3):
        run(gpu_peak.MATRIX, found, STEPS)
    assert np.isfinite(found).all()
