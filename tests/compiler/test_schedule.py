"""Is a trace that does not belong to a workload refused?"""

from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt.compiler import schedule
from tvm_conv3dt.compiler.spaces.point import Point
from tvm_conv3dt.errors import SignatureError
from tvm_conv3dt.spec import Workload


@pytest.mark.parametrize(
    "trace",
    [
        [[], 3],
        ["x", 1],
        [[["GetSBlock", [], ["no such block", "main"], ["b0"]]], []],
        [[["NoSuchInstruction", [], [], []]], []],
        [[["SampleCategorical", [], [[1, 2], [0.5, 0.5]], ["v0"]]], [[0, 7]]],
        [[[]], []],
    ],
    ids=str,
)
def test_trace_that_does_not_fit_is_refused(trace, host, small):
    with pytest.raises(SignatureError, match="it does not fit the definition"):
        replace(schedule.default_schedule(small, host), trace=trace).apply(host)


def test_trace_of_another_workload_is_refused(host, small):
    padded = schedule.point_schedule(small, host, Point("phases", "rows", 1))
    unpadded = Workload.make((1, 2, 2, 4, 3), (2, 2, 2, 8, 3), (1, 4, 4, 8, 8), 2)
    with pytest.raises(SignatureError, match=f"apply trace with {unpadded.id}"):
        replace(padded, workload=unpadded).apply(host)


def test_command_that_tunes_names_a_device_that_the_catalogue_has():
    assert schedule.how_to_tune("n1", "x86-64-v3").endswith("--device x86-64-v3 --workloads n1")
    assert schedule.how_to_tune("n1", "znver9").endswith("--device host --workloads n1")
