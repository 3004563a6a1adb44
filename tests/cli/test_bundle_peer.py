"""A bundle as `bench` times it."""

import pytest

pytest.importorskip("tvm")

import tvm_conv3dt
from tvm_conv3dt.cli import bundle_peer
from tvm_conv3dt.runtime import bundle, get_num_threads


def test_level_is_the_one_that_is_named(levels_bundle, levels):
    started = bundle_peer.start(get_num_threads(), str(levels_bundle), levels[1])
    assert bundle.loaded()[-1].level.device == levels[1]
    assert started.version == tvm_conv3dt.__version__
