"""The picture: a PNG for any number of layers, or a clear error."""

import sys

import pytest

from tvm_conv3dt.errors import FileWriteError, PlatformError
from tvm_conv3dt.measure import picture
from tvm_conv3dt.measure.ceiling import Ceilings
from tvm_conv3dt.measure.report import Row
from tvm_conv3dt.measure.timing import Timing
from tvm_conv3dt.spec import Workload

pytest.importorskip("matplotlib")

WORKLOAD = Workload.make([1, 8, 8, 8, 100], [2, 2, 2, 125, 100], [1, 16, 16, 16, 125], 2)
CEILINGS = Ceilings(100.0, 10.0, 10.0, threads=2, fma_gflops=150.0)


def rows(count, names=("untuned", "tuned")):
    timing = Timing(2e-3, 1.9e-3, 2.1e-3, 1.8e-3, 9)
    return [Row(f"a/{i}", WORKLOAD, dict.fromkeys(names, timing)) for i in range(count)]


@pytest.mark.parametrize(
    "shown",
    [rows(0), rows(1, ("only",)), rows(3), rows(30), rows(1, tuple("abcdefghi"))],
    ids=["none", "one", "three", "thirty", "nine series"],
)
def test_picture_is_a_png(tmp_path, shown):
    picture.draw(tmp_path / "picture.png", shown, CEILINGS, "title")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_layer_that_lacks_a_series_is_drawn(tmp_path):
    picture.draw(tmp_path / "picture.png", [*rows(1), *rows(1, ("tuned",))], CEILINGS)
    assert (tmp_path / "picture.png").exists()


def test_folder_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(FileWriteError, match=r"failed to write picture with .*No such file"):
        picture.draw(tmp_path / "none" / "picture.png", rows(1), CEILINGS)


def test_missing_matplotlib_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlatformError, match=r"pip install tvm-conv3dt\[plot\]"):
        picture.draw(tmp_path / "picture.png", rows(1), CEILINGS)
