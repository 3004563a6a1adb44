"""The table and the JSON of known figures."""

import io
import json

import pytest

from tvm_conv3dt.measure import report
from tvm_conv3dt.measure.ceiling import Ceilings
from tvm_conv3dt.measure.report import Row
from tvm_conv3dt.measure.timing import Timing
from tvm_conv3dt.spec import Workload

WORKLOAD = Workload.make([1, 8, 8, 8, 100], [2, 2, 2, 125, 100], [1, 16, 16, 16, 125], 2)
assert WORKLOAD.flops == 102_400_000
CEILINGS = Ceilings(102.4, 1000.0, 1000.0, threads=2)  # one millisecond


def timing(seconds):
    return Timing(seconds, seconds * 0.98, seconds * 1.02, seconds * 0.97, 9)


ROWS = [
    Row("a/one", WORKLOAD, {"untuned": timing(4e-3), "tuned": timing(1.25e-3)}),
    Row("a/two", WORKLOAD, {"tuned": timing(2e-3)}),
]


def printed(rows, width=80):
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), width=width)
    console.print(report.table(rows, CEILINGS, "title"))
    return [line.split() for line in console.file.getvalue().splitlines() if line.strip()]


def test_table_fits_a_terminal_and_has_all_figures():
    title, heading, _, *lines, caption = printed(ROWS)
    assert title == ["title"]
    assert heading == ["layer", "ms", "±", "GFLOP/s", "of", "ceiling", "limited", "by"]
    assert lines == [
        ["a/one", "untuned", "4.00", "2%", "25.6", "25%", "compute"],
        ["tuned", "1.25", "2%", "81.9", "80%"],
        ["a/two", "tuned", "2.00", "2%", "51.2", "50%", "compute"],
    ]
    assert " ".join(caption) == "ceilings: matrix product 102 GFLOP/s, copy 1000 GB/s"


def test_table_of_one_implementation_does_not_name_it():
    *_, line, _ = printed(ROWS[1:])
    assert line == ["a/two", "2.00", "2%", "51.2", "50%", "compute"]


def test_table_of_nothing_is_printed():
    assert printed([])


def test_limits_of_arithmetic_are_named():
    found = Ceilings(102.4, 1000.0, 1000.0, threads=2, fma_gflops=204.8)
    assert report.arithmetic(found) == "multiply-adds 205 GFLOP/s, matrix product 102 GFLOP/s"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00123, "0.00123"), (1, "1.00"), (12.34, "12.3"), (99.96, "100"), (1234.5, "1234")],
)
def test_figure_has_three_digits(value, text):
    assert report.figure(value) == text


def test_json_has_all_figures():
    found = json.loads(json.dumps(report.to_dict(ROWS, CEILINGS)))
    assert found["ceilings"]["gflops"] == 102.4
    assert found["ceilings"]["copy_gbs"] == 1000.0
    assert [row["name"] for row in found["rows"]] == ["a/one", "a/two"]
    first = found["rows"][0]
    assert (first["id"], first["limit"]) == (WORKLOAD.id, "compute")
    assert first["ceiling_ms"] == pytest.approx(1.0)
    assert first["timings"]["tuned"]["median_ms"] == pytest.approx(1.25)
    assert first["timings"]["tuned"]["gflops"] == pytest.approx(81.92)
    assert first["timings"]["tuned"]["share"] == pytest.approx(0.8)
