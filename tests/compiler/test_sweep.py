"""Are random legal calls exact, through the public function?"""

import random

import numpy as np
import pytest

import tvm_conv3dt
from tvm_conv3dt.reference import integer_data, random_data, reference
from tvm_conv3dt.spec import Workload

SEED = 20261123
COUNT = 320


def random_workload(rng: random.Random) -> Workload:
    """Draw from all that semantics allow: odd sizes, k < s, every legal output size, dilation with stride."""
    padding = rng.choice(["SAME", "VALID"])
    dilated = rng.random() < 0.35
    sizes, kernel, strides, dilations, outputs = [], [], [], [], []
    for _ in range(3):
        size, k = rng.choice([1, 1, 2, 3, 4, 5, 7, 9]), rng.randint(1, 5)
        stride, dilation = rng.randint(1, 4), rng.randint(1, 4) if dilated else 1
        extent = (k - 1) * dilation + 1
        if padding == "VALID":
            first = (size - 1) * stride + extent
            output = rng.randrange(first, first + stride)
        else:
            output = rng.randint((size - 1) * stride + 1, size * stride)
        for values, value in zip(
            (sizes, kernel, strides, dilations, outputs),
            (size, k, stride, dilation, output),
            strict=True,
        ):
            values.append(value)
    batch = rng.choice([1, 1, 2, 3])
    in_channels = rng.choice([1, 2, 3, 8, 13, 16, 20])
    out_channels = rng.choice([1, 2, 3, 7, 8, 9, 16, 24, 33])
    return Workload.make(
        (batch, *sizes, in_channels),
        (*kernel, out_channels, in_channels),
        (batch, *outputs, out_channels),
        strides,
        padding,
        dilations=dilations,
    )


def sweep() -> list[Workload]:
    rng = random.Random(SEED)
    return [random_workload(rng) for _ in range(COUNT)]


def call(workload: Workload, x: np.ndarray, filters: np.ndarray) -> np.ndarray:
    return tvm_conv3dt.conv3d_transpose(
        x,
        filters,
        workload.output_shape,
        workload.strides,
        workload.padding,
        workload.data_format,
        workload.dilations,
    )


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TVM_CONV3DT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.slow
def test_integers_are_exact() -> None:
    print(f"seed {SEED}")
    wrong = []
    for index, workload in enumerate(sweep()):
        x, filters, _ = integer_data(workload, seed=index)
        if not np.array_equal(call(workload, x, filters), reference(workload, x, filters)):
            wrong.append(workload.id)
    assert wrong == []


@pytest.mark.slow
@pytest.mark.oracle
def test_random_data_agrees_with_tensorflow() -> None:
    tf = pytest.importorskip("tensorflow")
    print(f"seed {SEED}")
    compared = 0
    for index, workload in enumerate(sweep()):
        if max(workload.dilations) > 1:
            continue  # TensorFlow's plain kernel refuses it; the reference covers it above
        x, filters, _ = random_data(workload, seed=index)
        expected = tf.nn.conv3d_transpose(
            x, filters, workload.output_shape, [1, *workload.strides, 1], workload.padding
        ).numpy()
        scale = np.abs(expected).max() or 1.0
        error = np.abs(call(workload, x, filters) - expected).max() / scale
        assert error <= 1e-5, workload.id
        compared += 1
    assert compared >= 200
