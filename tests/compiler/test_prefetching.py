"""Does a task ask for the plane that it reads next, and nothing outside of the input's memory?"""

import re
from dataclasses import replace

import pytest

tvm = pytest.importorskip("tvm")

from tvm_conv3dt.compiler.spaces.dot_nest import asks_ahead
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.spec import Workload


def workload(channels=32, stride=2, width=20):
    sizes = (4, 5, width)
    output = [each * stride for each in sizes]
    return Workload.make((1, *sizes, channels), (3, 3, 3, 1, channels), (1, *output, 1), stride)


@pytest.fixture
def device(host):
    """This machine with caches that hold nothing."""
    return replace(host, l2_bytes=1024)


def prefetches(kernel):
    source = kernel.module.mod.inspect_source("ll")
    return len(re.findall(r"call void @llvm\.prefetch", source))


@pytest.mark.parametrize(
    ("order", "asks"),
    [("rows", False), ("columns", False), ("rows-deep", True), ("columns-deep", True)],
)
def test_tasks_that_go_through_planes_ask_ahead(order, asks, device, built):
    assert asks_ahead(workload(), device, order) == asks
    point = Point("dot", order, 1)
    assert (prefetches(built(workload(), device, point)) > 0) == asks


def test_input_that_stays_in_the_second_cache_is_not_asked_for(host, built):
    point = Point("dot", "columns-deep", 1)
    assert prefetches(built(workload(), host, point)) == 0


@pytest.mark.parametrize(
    "case", [{}, {"channels": 48}, {"stride": 1}, {"width": 3}, {"width": 77}], ids=str
)
@pytest.mark.parametrize("order", ["rows-deep", "columns-deep"])
def test_results_are_exact(case, order, device, inexact):
    assert inexact(workload(**case), device, [Point("dot", order, 1)]) == []
