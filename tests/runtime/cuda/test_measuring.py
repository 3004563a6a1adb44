"""Operators on a GPU as `verify` and `bench` use them."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from tvm_conv3dt.cli import bundle_peer, bundles
from tvm_conv3dt.measure import timing
from tvm_conv3dt.measure.peers.problem import Problem
from tvm_conv3dt.measure.verify import verify
from tvm_conv3dt.reference import reference


@pytest.fixture
def bundle(make, workload):
    """A bundle of one layer, whose operators are on the GPU."""
    layer = SimpleNamespace(name="test", workload=workload)
    codes = []

    def operator(name, filters, bias=None):
        assert name == "test"
        found, code = make(workload, filters, bias)
        codes.append(code)
        return found

    class Bundle(SimpleNamespace):
        def __contains__(self, which):
            return which == workload

    return Bundle(layer=lambda which: layer, operator=operator, codes=codes)


def test_layer_is_verified(bundle, workload):
    found = verify(workload, bundles.runner(bundle, bundle.layer("test")))
    assert found.passed, found
    assert len(bundle.codes) == 2


def test_wrong_layer_is_found_out(bundle, workload):
    def run(x, filters, bias, out):
        bundles.runner(bundle, bundle.layer("test"))(x, filters, bias, out)
        out[0, 0, 0, 0, 0] += 1

    assert verify(workload, run).status == "FAILED"


@pytest.fixture
def variants(bundle, workload, monkeypatch):
    runtime = SimpleNamespace(set_num_threads=lambda count: None, load=lambda *_, **__: bundle)
    monkeypatch.setattr(bundle_peer, "runtime", runtime)
    started = bundle_peer.start(1, "folder", "cuda-sm90")
    return started.prepare(Problem.of(workload))


def test_layer_is_timed_on_the_gpu_and_waited_for_once_a_sample(variants, bundle, gpu, monkeypatch):
    # A call takes a quarter of the shortest sample, however busy the machine is.
    looks = itertools.count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(looks) * 0.25e-3)
    code = bundle.codes[-1]
    assert [each.output for each in variants] == ["reused", "fresh"]
    for variant in variants:
        gpu.waits.clear()
        called = len(code.calls)
        timing.turn(variant.run, 0, variant.wait)
        assert len(code.calls) - called == 1 + 1 + 4
        assert len(gpu.waits) == 3
        assert not any(gpu.queues.values())
    addresses = {x for x, _, _ in code.calls}
    assert len(addresses) == 1, "the input was copied"


@pytest.mark.parametrize("place", [0, 1])
def test_what_is_timed_is_right(place, variants, workload):
    problem = Problem.of(workload)
    found = variants[place].array(variants[place].run())
    expected = reference(workload, problem.x, problem.filters, problem.bias)
    np.testing.assert_array_equal(found, expected.astype(np.float32))
