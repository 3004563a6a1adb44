"""The arithmetic of comparisons, and how they are written."""

import io
import json
from dataclasses import replace

import pytest

from tvm_conv3dt.errors import FileWriteError
from tvm_conv3dt.measure import comparison_picture, comparison_report
from tvm_conv3dt.measure.ceiling import Ceilings
from tvm_conv3dt.measure.comparison import BESIDE, OURS, Comparison, Entry, summary, workspace_bound
from tvm_conv3dt.measure.peers.messages import Failure
from tvm_conv3dt.measure.timing import Timing
from tvm_conv3dt.measure.watch import Turns
from tvm_conv3dt.spec import Workload

WORKLOAD = Workload.make([1, 8, 8, 8, 100], [2, 2, 2, 125, 100], [1, 16, 16, 16, 125], 2)
CEILINGS = Ceilings(102.4, 1000.0, 1000.0, 2)  # one millisecond
PEERS = ("pytorch", "tensorflow")


def entry(name, milliseconds, layout="NDHWC", output="fresh"):
    seconds = milliseconds * 1e-3
    return Entry(name, layout, output, Timing(seconds, seconds, seconds, seconds, 9))


def layer(name, ours, fresh, *peers, workspace=0, failures=None):
    mine = (entry(OURS, ours, output="reused"), entry(OURS, fresh))
    return Comparison(name, WORKLOAD, workspace, (*mine, *peers), failures or {})


FIRST = layer(
    "a/one",
    2,
    4,
    entry("pytorch", 12, "contiguous"),
    entry("pytorch", 8, "channels_last_3d"),
    entry("tensorflow", 9),
)
SECOND = layer(
    "a/two",
    1,
    1,
    entry("pytorch", 1, "contiguous"),
    workspace=2_000_000,
    failures={"tensorflow": Failure("SIGABRT", "aborted")},
)
LOST = Comparison("a/lost", WORKLOAD, 0, (), {OURS: Failure("wrong", "all of it")})


def test_best_peer_is_the_fastest_layout_of_all():
    assert FIRST.best("pytorch").layout == "channels_last_3d"
    assert FIRST.best_peer() == FIRST.best("pytorch")
    assert (FIRST.speedup(), FIRST.speedup("fresh")) == (4.0, 2.0)


def test_speedup_by_best_is_that_of_least_times():
    """Half of everybody's samples took twice as long, three quarters of ours."""

    def least(each, share):
        found = each.timing
        return replace(each, timing=replace(found, best=found.median * share))

    ours, fresh, *peers = FIRST.entries
    found = replace(
        FIRST, entries=(least(ours, 0.25), fresh, *(least(each, 0.5) for each in peers))
    )
    assert (found.speedup(), found.speedup_by_best()) == (4.0, 8.0)
    assert LOST.speedup_by_best() is None
    both = summary([found, SECOND], CEILINGS)
    assert both.speedup_by_best == pytest.approx(8**0.5)
    assert both.least_speedup_by_best == ("a/two", 1.0)


def test_ours_is_shown_with_its_output_reused():
    slower = layer("a/three", 3, 2)
    assert slower.best(OURS).output == "reused"


def test_layer_without_times_has_no_figures():
    assert LOST.ours() is LOST.best_peer() is LOST.speedup() is LOST.share(CEILINGS) is None


def test_summary_has_geometric_means_and_the_least():
    found = summary([FIRST, SECOND, LOST], CEILINGS)
    assert found.speedup == pytest.approx(2.0)
    assert found.fresh_speedup == pytest.approx(2**0.5)
    assert found.least_speedup == ("a/two", 1.0)
    assert found.share == pytest.approx(0.5**0.5)
    assert found.over_workspace == ("a/two",)


def test_workspace_bound_is_a_megabyte_or_a_twentieth_of_the_output():
    large = Workload.make([1, 64, 64, 64, 1], [2, 2, 2, 10, 1], [1, 128, 128, 128, 10], 2)
    assert workspace_bound(WORKLOAD) == 1_000_000
    assert workspace_bound(large) == 4 * 128**3 * 10 // 20


def test_table_and_markdown_have_one_line_per_layer():
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), width=160)
    rows = [FIRST, SECOND, LOST]
    console.print(comparison_report.table(rows, CEILINGS, PEERS))
    lines = [line.split() for line in console.file.getvalue().splitlines() if line.strip()]
    cells = ["2.00", "0%", "4.00", "8.00", "cl", "9.00", "4.00", "51.2", "50%", "0.00"]
    assert lines[2] == ["a/one", "compute", "1.00", *cells]
    assert lines[3][6:11] == ["1.00", "failed:", "SIGABRT", "1.00", "102"]
    assert lines[4][3:5] == ["failed:", "wrong"]
    text = comparison_report.markdown(rows, CEILINGS, PEERS, Turns())
    first = next(line for line in text.splitlines() if "a/one" in line)
    assert first.replace("|", " ").split() == lines[2]
    assert "- a/two, tensorflow failed: SIGABRT: aborted" in text


def test_remarks_say_the_means_and_what_outputs_were():
    text = "\n".join(comparison_report.remarks([FIRST, SECOND], CEILINGS, PEERS, Turns()))
    assert "geometric mean: 2.00 with out=, 1.41 with fresh outputs; least 1.00 (a/two" in text
    assert "5 % of the output: a/two" in text
    assert "pytorch fresh, tensorflow fresh" in text


def test_remarks_name_both_limits_of_arithmetic_and_the_layers_speeds():
    found = Ceilings(102.4, 1000.0, 1000.0, 2, 204.8, {"one": 20.0, "two": 40.0})
    text = "\n".join(comparison_report.remarks([FIRST], found, PEERS, Turns()))
    assert "multiply-adds 205 GFLOP/s, matrix product 102 GFLOP/s" in text
    assert "each layer's own bytes 20.0 to 40.0 GB/s" in text
    assert "needs the compiler" not in text


def test_remarks_say_how_many_products_reach_an_output():
    whole = Workload.make([1, 2, 2, 2, 1], [2, 2, 2, 1, 1], [1, 4, 4, 4, 1], 2)
    cut = Workload.make([1, 1, 1, 2, 1], [1, 1, 3, 1, 1], [1, 1, 1, 4, 1], [1, 1, 2])  # 5 of 6
    for workload, said in ((whole, False), (cut, True)):
        comparison = replace(FIRST, workload=workload)
        text = "\n".join(comparison_report.remarks([comparison], CEILINGS, PEERS, Turns()))
        assert ("83.3% of them (geometric mean) reach an output" in text) == said


def test_remarks_say_where_the_peak_is_not_known():
    text = "\n".join(comparison_report.remarks([FIRST], CEILINGS, PEERS, Turns()))
    assert "the compute limit is the matrix product" in text
    assert "needs the compiler" in text


def test_disturbed_turns_are_told():
    quiet, disturbed = (
        "\n".join(comparison_report.remarks([FIRST], CEILINGS, PEERS, turns))
        for turns in (Turns(taken=90), Turns(90, 20, 3))
    )
    assert "turns" not in quiet
    assert "of 90 turns 20 do not count, and 3 count though they are disturbed" in disturbed
    assert "least time" not in quiet
    assert "the speed-up over the best peer is 4.00 with out=; least 4.00 (a/one)" in disturbed


def test_json_keeps_every_layout_and_failure():
    turns = Turns(taken=9, dropped=2)
    figures = comparison_report.to_dict([FIRST, SECOND], CEILINGS, {}, turns)
    found = json.loads(json.dumps(figures))
    assert found["turns"] == {"taken": 9, "dropped": 2, "disturbed": 0}
    first, second = found["rows"]
    layouts = [each["layout"] for each in first["timings"] if each["implementation"] == "pytorch"]
    assert layouts == ["contiguous", "channels_last_3d"]
    assert first["timings"][0]["share"] == pytest.approx(0.5)
    assert first["ceiling_ms"] == first["compute_ms"] == pytest.approx(1.0)
    assert first["memory_ms"] == pytest.approx(WORKLOAD.bytes / 1e9)
    assert second["failures"]["tensorflow"] == {"kind": "SIGABRT", "message": "aborted"}
    assert found["summary"]["speedup"] == pytest.approx(2.0)


@pytest.mark.parametrize("draw", [comparison_picture.draw_layers, comparison_picture.draw_roofline])
@pytest.mark.parametrize("rows", [[], [FIRST, SECOND, LOST], [FIRST] * 30], ids=len)
@pytest.mark.parametrize("peak", [None, 204.8, 110.0])
def test_picture_is_a_png(tmp_path, draw, rows, peak):
    pytest.importorskip("matplotlib")
    ceilings = replace(CEILINGS, fma_gflops=peak)
    draw(tmp_path / "picture.png", rows, ceilings, PEERS, "title")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileWriteError, match="failed to write picture"):
        draw(tmp_path / "none" / "picture.png", rows, CEILINGS, PEERS)


IN_HALVES = replace(
    FIRST,
    workload=WORKLOAD.recast(dtype="bfloat16"),
    entries=(
        *FIRST.entries[:2],
        entry("openvino", 8, "NDHWC"),
        entry("openvino", 6, "NCDHW float32"),
        entry(BESIDE, 5, "NDHWC float32", "reused"),
        entry(BESIDE, 1, "NDHWC float32", "fresh"),
    ),
)
WITH_UNIT = replace(CEILINGS, fma_gflops=102.4, bfloat16_gflops=204.8)


def test_bundle_beside_is_no_peer_and_has_its_output_reused():
    assert IN_HALVES.best_peer().implementation == "openvino"
    assert (IN_HALVES.speedup(), IN_HALVES.beside_speedup()) == (3.0, 2.5)
    assert FIRST.beside_speedup() is None
    found = summary([IN_HALVES, FIRST], CEILINGS)
    assert found.beside_speedup == pytest.approx(2.5)
    assert found.least_beside_speedup == ("a/one", 2.5)


def test_table_has_the_bundle_beside_after_the_peers():
    text = comparison_report.markdown([IN_HALVES], WITH_UNIT, ("openvino", BESIDE), Turns())
    headings, _, first = text.splitlines()[:3]
    assert "| openvino | × best | beside | × beside |" in headings
    assert "| 6.00 cf f32 | 3.00 | 5.00 | 2.50 |" in first
    assert "over the bundle beside, geometric mean: 2.50 with out=; least 2.50 (a/one)" in text
    assert "peers' outputs: openvino fresh;" in text
    assert "f32: it took and gave float32 arrays" in text
    alone = comparison_report.markdown([IN_HALVES], WITH_UNIT, (BESIDE,), Turns())
    assert "| fresh | beside | × beside |" in alone
    assert "peers' outputs" not in alone


def test_peak_is_named():
    row = comparison_report.to_dict([IN_HALVES], WITH_UNIT, {}, Turns())["rows"][0]
    assert (row["peak"], row["peak_gflops"]) == ("bfloat16 matrix unit", 204.8)
    assert row["beside_speedup"] == 2.5
    text = "\n".join(comparison_report.remarks([IN_HALVES], WITH_UNIT, (), Turns()))
    assert "multiply-adds 102 GFLOP/s, bfloat16 matrix unit 205 GFLOP/s" in text
    assert "the compute limit of bfloat16 is that of the matrix unit" in text


def test_remarks_say_where_halves_have_float32s_limit():
    text = "\n".join(comparison_report.remarks([IN_HALVES], CEILINGS, (), Turns()))
    assert "the compute limit of bfloat16 is that of float32: there is no matrix unit" in text
    half = replace(FIRST, workload=WORKLOAD.recast(dtype="float16"))
    text = "\n".join(comparison_report.remarks([half], CEILINGS, (), Turns()))
    assert "the compute limit of float16 is that of float32, in which it is added" in text
    text = "\n".join(comparison_report.remarks([FIRST], CEILINGS, (), Turns()))
    assert "the compute limit of" not in text


@pytest.mark.parametrize(("peak", "passed"), [(102.4, False), (0.1, True), (None, False)])
def test_remarks_say_how_the_limit_of_vectors_is_passed(peak, passed):
    ceilings = replace(CEILINGS, gflops=0.1, fma_gflops=peak)
    text = "\n".join(comparison_report.remarks([FIRST], ceilings, (), Turns()))
    assert ("layers above 100 % multiply in pieces on a matrix unit" in text) == passed


ON_A_GPU = replace(
    FIRST,
    entries=(
        *FIRST.entries[:2],
        entry("pytorch", 12, "contiguous"),
        entry("pytorch", 8, "channels_last_3d"),
        entry("pytorch-tf32", 1, "contiguous"),
    ),
)


def test_no_speedup_is_over_a_peer_that_computes_with_less():
    assert ON_A_GPU.best_peer().implementation == "pytorch"
    assert ON_A_GPU.best_peer(less_exact=True).implementation == "pytorch-tf32"
    assert (ON_A_GPU.speedup(), ON_A_GPU.speedup(less_exact=True)) == (4.0, 0.5)
    found = summary([ON_A_GPU], CEILINGS)
    assert (found.speedup, found.less_exact_speedup) == (pytest.approx(4.0), pytest.approx(0.5))
    assert summary([FIRST], CEILINGS).less_exact_speedup is None


GPU_CEILINGS = Ceilings(None, 1000.0, 1000.0, 2, 102.4, gpu="Tester")


def test_remarks_of_a_gpu_name_it_and_tf32_apart():
    columns = ("pytorch", "pytorch-tf32")
    text = "\n".join(comparison_report.remarks([ON_A_GPU], GPU_CEILINGS, columns, Turns()))
    assert "geometric mean: 4.00 with out=" in text
    assert "round float32 to TF32, which no speed-up above counts: 0.50 with out=" in text
    assert "ceilings, Tester: multiply-adds 102 GFLOP/s, large copy" in text
    assert "was not measured" not in text
    first = comparison_report.markdown([ON_A_GPU], GPU_CEILINGS, columns, Turns()).splitlines()[2]
    assert "| 8.00 cl | 1.00 | 4.00 |" in first


def test_remarks_say_that_a_gpus_figures_are_nominal():
    nominal = replace(GPU_CEILINGS, nominal=True)
    text = "\n".join(comparison_report.remarks([ON_A_GPU], nominal, ("pytorch",), Turns()))
    assert "is what its highest clock and its units give, and was not measured" in text
    assert "matrix product" not in text
