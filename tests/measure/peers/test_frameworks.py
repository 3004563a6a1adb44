"""Each framework computes what the bundle computes, so that its times mean something."""

import numpy as np
import pytest

from tvm_conv3dt.errors import PlatformError
from tvm_conv3dt.measure import peers
from tvm_conv3dt.measure.peers import PEERS
from tvm_conv3dt.measure.peers.messages import Failure, Prepare, Prepared, Samples, Turn
from tvm_conv3dt.measure.peers.problem import Problem
from tvm_conv3dt.measure.peers.process import Process
from tvm_conv3dt.reference import reference
from tvm_conv3dt.spec import Workload

SHAPES = ([1, 3, 3, 4, 5], [3, 3, 3, 7, 5])

# What TensorFlow pads and cuts where others do it differently.
WORKLOADS = {
    "as much cut before as after": Workload.make(*SHAPES, [1, 5, 5, 7, 7], 2),
    "more cut after": Workload.make(*SHAPES, [1, 6, 6, 8, 7], 2, bias=True, activation="relu"),
    "both": Workload.make(*SHAPES, [1, 5, 6, 7, 7], 2, activation="leaky_relu", alpha=0.5),
    "zeros after": Workload.make(*SHAPES, [1, 8, 7, 10, 7], 2, "VALID", activation="elu"),
    "holes": Workload.make([1, 3, 3, 4, 5], [1, 2, 2, 7, 5], [1, 7, 8, 11, 7], 3, "VALID"),
    "stride 1": Workload.make(*SHAPES, [1, 3, 3, 4, 7], 1, bias=True, activation="tanh"),
    "steep elu": Workload.make(*SHAPES, [1, 5, 5, 7, 7], 2, activation="elu", alpha=0.5),
    "channels first": Workload.make(
        [1, 5, 3, 3, 4], [3, 3, 3, 7, 5], [1, 7, 6, 6, 8], 2, data_format="NCDHW", bias=True
    ),
    "sigmoid": Workload.make(*SHAPES, [1, 5, 5, 6, 7], 1, "VALID", activation="sigmoid"),
    "more cut before": Workload.make(*SHAPES, [1, 6, 6, 8, 7], 2, [1, 1, 1], bias=True),
    "much cut before, nothing after": Workload.make(*SHAPES, [1, 3, 4, 5, 7], [2, 1, 2], [4, 1, 4]),
    "much cut after": Workload.make(*SHAPES, [1, 2, 1, 3, 7], 2, [1, 0, 2]),
    "cut before, zeros after": Workload.make(*SHAPES, [1, 7, 6, 8, 7], 2, [1, 2, 2]),
}


# TVM must be tuned for each of them: `test_tvm` looks at what it computes without.
READY = [name for name in PEERS if name != "tvm"]


@pytest.fixture(scope="module", params=READY)
def framework(request, tmp_path_factory):
    for package in PEERS[request.param].packages:
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp(request.param)
    with Process(request.param, PEERS[request.param], 1, folder) as process:
        yield process


def prepare(framework, workload, folder):
    problem = Problem.of(workload)
    expected = reference(workload, problem.x, problem.filters, problem.bias)
    np.save(folder / "expected.npy", expected.astype(workload.numpy_dtype))
    return framework.prepare(Prepare(workload, str(folder / "expected.npy"), writes=False))


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_framework_is_right_in_all_its_layouts(framework, workload, tmp_path):
    answer = prepare(framework, workload, tmp_path)
    if framework.name == "tensorflow" and not isinstance(workload.padding, str):
        assert isinstance(answer, Failure)
        assert "TensorFlow's is SAME or VALID" in answer.message
        return
    assert isinstance(answer, Prepared), answer
    assert not answer.faults
    for place in answer.variants:
        assert isinstance(framework.turn(Turn(place, 0.001)), Samples)


LAYOUTS = {
    "tensorflow": ["NDHWC"],
    "pytorch": ["contiguous", "channels_last_3d"],
    "onnxruntime": ["NCDHW"],
    "openvino": ["NCDHW", "NDHWC", "NCDHW float32", "NDHWC float32"],
}


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["more cut after", "steep elu", "channels first", "stride 1"])
def test_half_types_are_right_in_all_layouts_or_refused(framework, name, dtype, tmp_path):
    pytest.importorskip("ml_dtypes")
    answer = prepare(framework, WORKLOADS[name].recast(dtype=dtype), tmp_path)
    if (framework.name, dtype) == ("onnxruntime", "bfloat16"):
        assert isinstance(answer, Failure)
        assert "dtype bfloat16: ONNX Runtime's CPU provider has no ConvTranspose" in answer.message
        return
    assert isinstance(answer, Prepared), answer
    assert not answer.faults
    assert [layout for layout, _ in answer.variants.values()] == LAYOUTS[framework.name]
    for place in answer.variants:
        assert isinstance(framework.turn(Turn(place, 0.001)), Samples)


@pytest.mark.peers
@pytest.mark.slow
def test_stride_with_dilation_is_right_or_told_and_ends_nothing(framework, tmp_path):
    workload = Workload.make([1, 4, 4, 4, 2], [2, 2, 2, 3, 2], [1, 8, 8, 8, 3], 2, dilations=2)
    assert isinstance(prepare(framework, workload, tmp_path), Prepared | Failure)
    assert isinstance(prepare(framework, WORKLOADS["both"], tmp_path), Prepared)


@pytest.mark.parametrize(("name", "extra"), [("pytorch", "peers"), ("tvm", "compiler")])
def test_peer_that_is_not_installed_is_an_error(monkeypatch, name, extra):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    rule = rf"time peer with {name}: .*tvm-conv3dt\[{extra}\]"
    with pytest.raises(PlatformError, match=rule):
        peers.check_installed([name])
