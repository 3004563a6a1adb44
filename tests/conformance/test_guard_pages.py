"""Does compiled code read or write outside its arguments?

Each argument lies flush against a page without access, once with its end and once with its start, and inputs are
read-only; a process of its own runs the kernels, so that a fault is one workload's failure.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tvm_conv3dt.spec import DATA_FORMATS, DTYPES, Workload

from . import legal

pytest.importorskip("tvm")

TESTS = Path(__file__).resolve().parent.parent
RESTARTS = 10

# For each what is odd about it; every dtype and format is tried in turn.
CORNERS = {
    "folded phases, or a dot": "n1_x2x3x5x17_k2x2x2_y4x6x10x3_s2x2x2_d1x1x1_valid_f32_ndhwc",
    "few channels of a tail": "n2_x3x2x5x33_k4x2x2_y9x5x11x2_s2x2x2_d1x1x1_valid_f32_ndhwc_bias_relu",
    "one more than a vector": "n1_x3x3x9x9_k3x3x3_y6x5x18x17_s2x2x2_d1x1x1_same_f32_ndhwc_bias",
    "less than a vector": "n2_x2x3x7x5_k3x2x5_y4x6x14x7_s2x2x2_d1x1x1_same_f32_ndhwc",
    "many vectors and one": "n1_x2x2x5x4_k3x3x3_y5x5x11x65_s2x2x2_d1x1x1_valid_f32_ndhwc",
    "holes": "n1_x3x2x4x31_k1x2x1_y9x6x11x9_s3x3x3_d1x1x1_same_f32_ndhwc_bias",
    "stride and dilation": "n1_x3x4x5x7_k3x2x3_y11x15x23x15_s4x4x4_d1x2x3_valid_f32_ndhwc",
    "one element": "n1_x1x1x1x1_k1x1x1_y1x1x1x1_s1x1x1_d1x1x1_valid_f32_ndhwc_bias",
    "one wide, many taps": "n1_x1x1x17x1_k1x1x5_y1x1x17x1_s1x1x1_d1x1x2_same_f32_ndhwc",
    "one channel from many": "n1_x2x3x6x40_k3x3x3_y4x6x12x1_s2x2x2_d1x1x1_same_f32_ndhwc_bias",
}
# A row that is short of a square, and one of one position beside which there are taps.
SHORTER = (
    "n1_x4x8x31x64_k1x1x1_y4x8x31x16_s1x1x1_d1x1x1_valid_bf16_ndhwc",
    "n1_x2x3x1x32_k2x2x3_y4x6x3x32_s2x2x1_d1x1x1_valid_bf16_ndhwc",
)
STREAMED = "n1_x8x64x64x1_k1x2x2_y16x129x129x32_s2x2x2_d1x1x1_valid_f32_ndhwc"

Job = tuple[str, "dict | None"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}


def failures(jobs: Iterable[Job]) -> list[str]:
    """Run the jobs, in as many processes as there are crashes and one, and return what failed."""
    left, found = list(jobs), []
    assert left
    for _ in range(RESTARTS):
        done = subprocess.run(
            [sys.executable, "-m", "conformance.guarded"],
            input="\n".join(json.dumps(job) for job in left),
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        begun = 0
        for line in done.stdout.splitlines():
            word, number, *verdict = line.split(maxsplit=2)
            begun = int(number)
            if word == "end" and verdict:
                found.append(f"{left[begun]}: {verdict[0]}")
        if done.returncode == 0:
            assert begun == len(left) - 1
            return found
        assert "begin" in done.stdout, done.stderr
        found.append(f"{left[begun]}: ended with {done.returncode}")
        left = left[begun + 1 :]
        if not left:
            return found
    return [*found, f"{len(left)} more were not tried"]


@pytest.mark.parametrize("what", ["after", "before", "locked"])
def test_touching_a_guard_page_ends_the_process(what):
    done = subprocess.run(
        [sys.executable, "-m", "conformance.guarded", what],
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert done.returncode < 0, done.stderr


def in_turn() -> list[Workload]:
    """The corners, with dtypes and formats in turn, so that each corner has several and each is with several."""
    kinds = [(dtype, data_format) for dtype in DTYPES for data_format in DATA_FORMATS]
    workloads = []
    for index, text in enumerate(CORNERS.values()):
        for dtype, data_format in (("float32", "NDHWC"), kinds[(3 * index + 1) % len(kinds)]):
            workloads.append(in_format(replace(Workload.from_id(text), dtype=dtype), data_format))
    return workloads


def in_format(workload: Workload, data_format: str) -> Workload:
    if data_format == workload.data_format:
        return workload

    def turned(shape):
        batch, *spatial, channels = shape
        return (batch, channels, *spatial)

    return replace(
        workload,
        input=turned(workload.input),
        output_shape=turned(workload.output_shape),
        data_format=data_format,
    )


def some_points(workload: Workload, rng: random.Random, count: int) -> list[Job]:
    """Of each formulation and order of loops, some points, drawn at random."""
    from tvm_conv3dt.compiler.spaces import llvm
    from tvm_conv3dt.compiler.target import resolve

    groups = defaultdict(list)
    for point in llvm.points(workload, resolve("host")):
        groups[point.formulation, point.order].append(point)
    drawn = [p for group in groups.values() for p in rng.sample(group, min(count, len(group)))]
    return [(workload.id, asdict(point)) for point in drawn]


def test_corners_of_every_formulation_and_order_stay_inside(calls, conformance_seed, tell):
    rng = random.Random(conformance_seed)
    jobs = [
        job for workload in in_turn() for job in some_points(workload, rng, max(1, calls // 250))
    ]
    kinds = {(point["formulation"], point["order"]) for _, point in jobs}
    tell(f"guard pages: {len(jobs)} points of {len(kinds)} formulations and orders")
    assert {"phases", "dot"} < {formulation for formulation, _ in kinds}
    assert {order for _, order in kinds} >= {"rows", "panels", "filters"}
    assert failures(jobs) == []


@pytest.mark.parametrize("text", SHORTER)
def test_rows_that_are_shorter_than_a_units_squares_stay_inside(text, conformance_seed):
    assert failures(some_points(Workload.from_id(text), random.Random(conformance_seed), 1)) == []


def some_gpu_points(workload: Workload, rng: random.Random) -> list[Job]:
    """Of each kind of nest and folding, a point, drawn at random."""
    from tvm_conv3dt import device as devices
    from tvm_conv3dt.compiler.spaces import cuda

    groups = defaultdict(list)
    for point in cuda.points(workload, devices.get("cuda-sm87")):
        groups[point.order, "fold" in point.formulation].append(point)
    return [(workload.id, asdict(rng.choice(group))) for group in groups.values()]


def test_corners_stay_inside_on_gpus(conformance_seed, tell):
    rng = random.Random(conformance_seed)
    jobs = [job for workload in in_turn() for job in some_gpu_points(workload, rng)]
    tell(f"guard pages: {len(jobs)} points for GPUs")
    assert {point["order"] for _, point in jobs} == {"threads", "warps"}
    assert failures(jobs) == []


def test_stores_that_pass_by_the_caches_stay_inside(conformance_seed):
    from tvm_conv3dt.compiler.layout import Layout
    from tvm_conv3dt.compiler.spaces.streams import stream_candidates
    from tvm_conv3dt.compiler.target import resolve

    workload = Workload.from_id(STREAMED)
    if 1 not in stream_candidates(Layout(workload, 1), resolve("host")):
        pytest.skip("this machine's code has none")
    job, *_ = some_points(workload, random.Random(conformance_seed), 1)
    assert failures([(job[0], {**job[1], "stream": 1})]) == []


def test_random_calls_stay_inside(calls, conformance_seed, workload_option):
    drawn = legal.draw(max(1, calls // 4), conformance_seed, precision=True)
    chosen = drawn if workload_option is None else [workload_option]
    assert failures((workload.id, None) for workload in chosen) == []
